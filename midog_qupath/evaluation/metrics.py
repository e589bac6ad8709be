"""Precision, recall, F1 of pooled counts; balanced accuracy; the threshold with the best pooled F1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.matching import Points, hits_gained, match

#: As in the challenge's evaluation code.
EPSILON = 1e-6


@dataclass(frozen=True)
class Counts:
    """True positives, false positives, false negatives; sums of images are pooled, never averaged."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Share of predictions that are figures."""
        return self.tp / (self.tp + self.fp + EPSILON)

    @property
    def recall(self) -> float:
        """Share of figures that were found."""
        return self.tp / (self.tp + self.fn + EPSILON)

    @property
    def f1(self) -> float:
        """(2 TP + eps) / (2 TP + FP + FN + eps)."""
        return (2 * self.tp + EPSILON) / (2 * self.tp + self.fp + self.fn + EPSILON)


def count(truth: Points, predictions: Points, *, in_order: bool = False) -> Counts:
    """Counts of one image; (N, 2) and (M, 2) positions in microns. ``in_order``: see :func:`match`."""
    matching = match(truth, predictions, in_order=in_order)
    return Counts(len(matching.hits), len(matching.false_positives), len(matching.missed))


@dataclass(frozen=True)
class ScoredImage:
    """Truth (N, 2) and predictions (M, 2) of one image in microns; probabilities (M,) of the latter.

    ``in_order``: truths are matched in the order given, see :func:`match`.
    """

    truth: Points
    predictions: Points
    probabilities: NDArray[np.float64]
    in_order: bool = False


def pooled(images: Iterable[ScoredImage], threshold: float) -> Counts:
    """Counts over all images of the predictions with at least ``threshold``."""
    counts = (
        count(i.truth, i.predictions[i.probabilities >= threshold], in_order=i.in_order) for i in images
    )
    return sum(counts, Counts())


@dataclass(frozen=True)
class Sweep:
    """Pooled counts at every threshold.

    ``thresholds`` (K,): the distinct probabilities, falling; ``tp``, ``fp`` (K,): counts of the predictions
    with at least that probability. ``mitoses``, ``images``: how many there are in all.
    """

    thresholds: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    mitoses: int
    images: int

    def at(self, threshold: float) -> Counts:
        """What :func:`pooled` gives."""
        tp, fp = self.at_each(np.array([threshold]))
        return Counts(int(tp[0]), int(fp[0]), self.mitoses - int(tp[0]))

    def at_each(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """True and false positives (K,) at each of (K,) thresholds."""
        passed = np.searchsorted(-self.thresholds, -thresholds, side="right")
        return np.append(0, self.tp)[passed], np.append(0, self.fp)[passed]


def sweep(images: Sequence[ScoredImage], gained: Sequence[NDArray[np.bool_]] | None = None) -> Sweep:
    """Counts at all thresholds at once, exactly as :func:`pooled` counts at each of them.

    ``gained``: what :func:`hits_of` says of each image, where it is known already.
    """
    found = [hits_of(image) for image in images] if gained is None else gained
    return _sweep(images, np.concatenate([np.empty(0, bool), *found]))


def _sweep(images: Sequence[ScoredImage], gained: NDArray[np.bool_]) -> Sweep:
    probabilities = np.concatenate([np.empty(0), *(image.probabilities for image in images)])
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    tp = np.cumsum(gained[order])
    last = np.flatnonzero(np.append(falling[1:] < falling[:-1], True)) if len(falling) else np.empty(0, int)
    mitoses = sum(len(image.truth) for image in images)
    return Sweep(falling[last], tp[last], last + 1 - tp[last], mitoses, len(images))


def hits_of(image: ScoredImage) -> NDArray[np.bool_]:
    """Which predictions (M,) are a hit more at the threshold at which they join; see :func:`hits_gained`."""
    order = np.argsort(-image.probabilities, kind="stable")
    return hits_gained(image.truth, image.predictions, order, in_order=image.in_order)


def best_threshold(images: Sequence[ScoredImage]) -> tuple[float, Counts]:
    """The threshold with the highest pooled F1, and its counts.

    Thresholds lie half-way between observed probabilities; of several equally good ones the middle is
    taken, because the ends of such a range depend on single objects.

    Raises
    ------
    ValueError
        If no image has a prediction: no threshold is better than another.
    """
    swept = sweep(images)
    observed = swept.thresholds[::-1]
    if not len(observed):
        raise ValueError("no predictions to choose a threshold on")
    thresholds = np.concatenate([observed[:1], (observed[1:] + observed[:-1]) / 2])
    tp, called = swept.tp[::-1], (swept.tp + swept.fp)[::-1]
    f1 = (2 * tp + EPSILON) / (called + swept.mitoses + EPSILON)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    threshold = float(thresholds[best[(len(best) - 1) // 2]])
    return threshold, swept.at(threshold)


@dataclass(frozen=True)
class TypeScore:
    """Normal against atypical, atypical the positive class; pooled counts."""

    n_normal: int
    n_atypical: int
    normal_right: int
    atypical_right: int

    @property
    def sensitivity(self) -> float | None:
        """Share of atypical figures called atypical; None without any."""
        return self.atypical_right / self.n_atypical if self.n_atypical else None

    @property
    def specificity(self) -> float | None:
        """Share of normal figures called normal; None without any."""
        return self.normal_right / self.n_normal if self.n_normal else None

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of sensitivity and specificity; None unless both kinds were measured."""
        if self.sensitivity is None or self.specificity is None:
            return None
        return (self.sensitivity + self.specificity) / 2


def type_score(is_atypical: NDArray[np.bool_], called_atypical: NDArray[np.bool_]) -> TypeScore:
    """Score of (N,) calls against (N,) labels."""
    right = is_atypical == called_atypical
    return TypeScore(
        n_normal=int((~is_atypical).sum()),
        n_atypical=int(is_atypical.sum()),
        normal_right=int((right & ~is_atypical).sum()),
        atypical_right=int((right & is_atypical).sum()),
    )
