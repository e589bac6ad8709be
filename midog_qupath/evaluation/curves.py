"""Figures over all thresholds: average precision, FROC, precision and recall, area under the ROC curve.

Definitions of average precision and FROC-AUC are the challenge's (MIDOG25_T1_evaluation_docker).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.spatial import cKDTree

from midog_qupath.evaluation.matching import Points
from midog_qupath.evaluation.metrics import EPSILON, ScoredImage, Sweep
from midog_qupath.units import Microns

#: Half the side of the boxes that average precision compares.
BOX_HALF = Microns(11.25)
_IOU = 0.5
RECALLS = 101
_FROC_THRESHOLDS, _FROC_POINTS = 40, 50


def average_precision(images: Sequence[ScoredImage]) -> float | None:
    """Average precision of boxes of 22.5 um at an intersection over union of 0.5, pooled over images.

    Predictions, most probable first, take the free mitosis whose box overlaps theirs most; precision (its
    envelope) is averaged at recalls 0, 0.01, ... 1. (COCO's ``map_50`` without a limit of predictions.)

    Returns
    -------
    0..1; None where there is no mitosis.
    """
    mitoses = sum(len(image.truth) for image in images)
    if not mitoses:
        return None
    probabilities = np.concatenate([image.probabilities for image in images])
    hits = np.concatenate([box_hits(image) for image in images])
    found = np.cumsum(hits[np.argsort(-probabilities, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Rounding as in the challenge's numpy.arange(0, 1.01, 0.01).
    first = np.searchsorted(found / mitoses, np.arange(RECALLS) * 0.01, side="left")
    return float(np.append(envelope, 0.0)[first].mean())


def box_hits(image: ScoredImage) -> NDArray[np.bool_]:
    """Which predictions (M,) take a mitosis as :func:`average_precision` says."""
    hits = np.zeros(len(image.predictions), dtype=bool)
    if not len(image.truth) or not len(image.predictions):
        return hits
    order = np.lexsort((image.truth[:, 0], image.truth[:, 1]))
    truth = image.truth if image.in_order else image.truth[order]
    # Boxes further apart than half a side overlap by less than a third.
    near = cKDTree(truth).query_ball_point(image.predictions, BOX_HALF, p=np.inf, return_sorted=True)
    free = np.ones(len(truth), dtype=bool)
    for index in np.argsort(-image.probabilities, kind="stable"):
        candidates = [t for t in near[index] if free[t]]
        if candidates:
            overlap = _overlap(truth[candidates], image.predictions[index])
            # Of equal ones the last, as COCO does.
            best = len(candidates) - 1 - int(overlap[::-1].argmax())
            hits[index] = overlap[best] >= _IOU
            free[candidates[best]] &= not hits[index]
    return hits


def _overlap(truth: Points, prediction: Points) -> NDArray[np.float64]:
    sides = np.maximum(2 * BOX_HALF - np.abs(truth - prediction), 0)
    shared = sides[:, 0] * sides[:, 1]
    return np.asarray(shared / (2 * (2 * BOX_HALF) ** 2 - shared))


def froc_auc(swept: Sweep, most: float = 8.0) -> float | None:
    """Area under recall against the mean number of false positives an image, from 0 to ``most``.

    40 thresholds evenly from the lowest to the highest probability; recall between them is interpolated
    linearly at 50 points, 0 left of the first and constant right of the last. 8.0 is perfect.

    Returns
    -------
    0..``most``; None where there is no mitosis or no prediction.
    """
    if not swept.mitoses or not len(swept.thresholds):
        return None
    tp, fp = swept.at_each(froc_thresholds(swept.thresholds[-1], swept.thresholds[0]))
    return froc_area(fp / swept.images, tp / (swept.mitoses + EPSILON), most)


def froc_thresholds(lowest: float, highest: float) -> NDArray[np.float64]:
    """The 40 thresholds of :func:`froc_auc` for probabilities from ``lowest`` to ``highest``."""
    return np.linspace(lowest, highest, _FROC_THRESHOLDS)


def froc_area(fp_per_image: NDArray[np.float64], recall: NDArray[np.float64], most: float = 8.0) -> float:
    """Area under (K,) recalls against (K,) false positives an image; see :func:`froc_auc`."""
    order = np.lexsort((recall, fp_per_image))
    at = np.linspace(0, most, _FROC_POINTS)
    return float(trapezoid(np.interp(at, fp_per_image[order], recall[order], left=0.0), at))


@dataclass(frozen=True)
class Froc:
    """Sensitivity against false positives, thresholds falling; all (K,).

    ``fp_per_mm2``: false positives per mm2 of labelled ground.
    """

    thresholds: NDArray[np.float64]
    fp_per_mm2: NDArray[np.float64]
    sensitivity: NDArray[np.float64]

    def at(self, fp_per_mm2: float) -> float:
        """Highest sensitivity with at most so many false positives per mm2; 0 if no threshold has so few."""
        last = int(np.searchsorted(self.fp_per_mm2, fp_per_mm2, side="right")) - 1
        return float(self.sensitivity[last]) if last >= 0 else 0.0


def froc(swept: Sweep, mm2: float) -> Froc | None:
    """Sensitivity against false positives per mm2; None without a mitosis or an area (``mm2``)."""
    if not swept.mitoses or mm2 <= 0:
        return None
    return Froc(swept.thresholds, swept.fp / mm2, swept.tp / swept.mitoses)


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall at falling thresholds; all (K,)."""

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def precision_recall(swept: Sweep) -> PrecisionRecall | None:
    """Precision and recall (matched as F1 is) at every threshold; None without a mitosis."""
    if not swept.mitoses:
        return None
    return PrecisionRecall(swept.thresholds, swept.tp / (swept.tp + swept.fp), swept.tp / swept.mitoses)


def roc_auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve of (N,) scores: how often a positive ranks above a negative, ties half.

    None unless both kinds are there. (Mann and Whitney, Ann Math Stat 18 (1947) 50-60.)
    """
    above, below = scores[positive], np.sort(scores[~positive])
    if not len(above) or not len(below):
        return None
    lower = np.searchsorted(below, above, side="left")
    not_higher = np.searchsorted(below, above, side="right")
    return float((lower + not_higher).sum() / 2 / len(above) / len(below))
