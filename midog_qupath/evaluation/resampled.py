"""Figures as functions of how often each case was drawn, for :mod:`midog_qupath.evaluation.bootstrap`.

Each gives, for weights of one, exactly what its plain function gives; for whole weights what that would give
on a set in which a case stands so many times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.bootstrap import Floats, Statistic
from midog_qupath.evaluation.curves import RECALLS, box_hits, froc_area, froc_thresholds
from midog_qupath.evaluation.metrics import EPSILON, Counts, ScoredImage, Sweep, TypeScore, hits_of, sweep

#: What is divided by what, as columns of counts.
_TP, _FP, _FN = np.eye(3)
#: Numbers in one array at a time.
_AT_ONCE = 4_000_000


def precision_statistic(counts: Sequence[Counts]) -> Statistic:
    """Precision of the pooled counts of each case; it does not exist without a prediction."""
    return _share([(c.tp, c.fp, c.fn) for c in counts], _TP, _TP + _FP)


def recall_statistic(counts: Sequence[Counts]) -> Statistic:
    """Recall of the pooled counts of each case; it does not exist without a mitosis."""
    return _share([(c.tp, c.fp, c.fn) for c in counts], _TP, _TP + _FN)


def _share(rows: Sequence[tuple[int, int, int]], part: Floats, whole: Floats) -> Statistic:
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)

    def statistic(weights: Floats) -> Floats:
        counts = weights @ table
        of = counts @ whole
        return np.where(of > 0, (counts @ part) / (of + EPSILON), np.nan)

    return statistic


def sensitivity_statistic(scores: Sequence[TypeScore]) -> Statistic:
    """Share of atypical figures called atypical."""
    return _ratio([(s.atypical_right, s.n_atypical) for s in scores])


def specificity_statistic(scores: Sequence[TypeScore]) -> Statistic:
    """Share of normal figures called normal."""
    return _ratio([(s.normal_right, s.n_normal) for s in scores])


def _ratio(rows: Sequence[tuple[int, int]]) -> Statistic:
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)

    def statistic(weights: Floats) -> Floats:
        right, of = (weights @ table).T
        with np.errstate(invalid="ignore"):
            return np.asarray(right / of)

    return statistic


@dataclass(frozen=True)
class ScoredCases:
    """Scored images of cases 0 to ``cases`` - 1, with what is the same for every draw of them.

    ``case``: of each image. ``box``, ``gained``: hits of each image's predictions for average precision and
    for the challenge's rule.
    """

    images: Sequence[ScoredImage]
    case: Sequence[int]
    cases: int
    box: Sequence[NDArray[np.bool_]]
    gained: Sequence[NDArray[np.bool_]]

    @classmethod
    def of(cls, images: Sequence[ScoredImage], case: Sequence[int], cases: int) -> ScoredCases:
        """Match once what every draw needs."""
        return cls(images, case, cases, [box_hits(i) for i in images], [hits_of(i) for i in images])

    def subset(self, keep: Sequence[int], case: Sequence[int], cases: int) -> ScoredCases:
        """The images ``keep`` (indices) with cases counted anew."""
        return ScoredCases(
            [self.images[i] for i in keep],
            case,
            cases,
            [self.box[i] for i in keep],
            [self.gained[i] for i in keep],
        )

    def per_case(self, values: Sequence[float]) -> Floats:
        """(C,) sums over the images of each case."""
        summed = np.zeros(self.cases)
        np.add.at(summed, np.array(self.case, dtype=np.int64), np.array(values, dtype=np.float64))
        return summed


def average_precision_statistic(scored: ScoredCases) -> Statistic:
    """As :func:`midog_qupath.evaluation.curves.average_precision`."""
    sizes = [len(image.predictions) for image in scored.images]
    probabilities = np.concatenate([np.empty(0), *(i.probabilities for i in scored.images)])
    order = np.argsort(-probabilities, kind="stable")
    hits = np.concatenate([np.empty(0, np.bool_), *scored.box])[order]
    case = np.repeat(np.array(scored.case, dtype=np.int64), sizes)[order]
    at = np.flatnonzero(hits)
    # Precision rises at hits only: the envelope needs no other place. (K, C) up to and with each hit.
    called = _running(case, np.arange(len(case)), at, scored.cases)
    found = _running(case[at], at, at, scored.cases)
    mitoses = scored.per_case([len(image.truth) for image in scored.images])
    recalls = np.arange(RECALLS) * 0.01

    def statistic(weights: Floats) -> Floats:
        # In parts, so that memory does not grow with hits times draws.
        parts = np.array_split(weights, max(1, len(weights) * len(at) // _AT_ONCE))
        return np.concatenate([mean_precision(part) for part in parts])

    def mean_precision(weights: Floats) -> Floats:
        total, tp = weights @ mitoses, weights @ found.T
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.nan_to_num(tp / (weights @ called.T))
            recall = tp / total[:, None]
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.pad(envelope, ((0, 0), (0, 1)))
        values = [row[np.searchsorted(r, recalls)].mean() for row, r in zip(padded, recall, strict=True)]
        return np.where(total > 0, values, np.nan)

    return statistic


def _running(
    case: NDArray[np.int64], position: NDArray[np.int64], at: NDArray[np.int64], cases: int
) -> Floats:
    counted = np.zeros((len(at), cases))
    for one in np.unique(case):
        counted[:, one] = np.searchsorted(position[case == one], at, side="right")
    return counted


def froc_statistic(scored: ScoredCases) -> Statistic:
    """As :func:`midog_qupath.evaluation.curves.froc_auc`, with the thresholds that the drawn cases give."""
    of_case: dict[int, list[int]] = defaultdict(list)
    for index, case in enumerate(scored.case):
        of_case[case].append(index)
    sweeps = {
        case: sweep([scored.images[i] for i in indices], [scored.gained[i] for i in indices])
        for case, indices in of_case.items()
    }
    mitoses = scored.per_case([len(image.truth) for image in scored.images])
    images = scored.per_case([1.0] * len(scored.images))
    lowest, highest = _extremes(sweeps, scored.cases)

    def statistic(weights: Floats) -> Floats:
        drawn = weights > 0
        low = np.where(drawn, lowest, np.inf).min(axis=1, initial=np.inf)
        high = np.where(drawn, highest, -np.inf).max(axis=1, initial=-np.inf)
        areas = np.full(len(weights), np.nan)
        total = weights @ mitoses
        usable = (total > 0) & (low <= high)
        for pair in np.unique(np.stack([low[usable], high[usable]], axis=1), axis=0):
            rows = np.flatnonzero(usable & (low == pair[0]) & (high == pair[1]))
            tp, fp = _at_thresholds(sweeps, pair, scored.cases)
            recall = (weights[rows] @ tp) / (total[rows, None] + EPSILON)
            false = (weights[rows] @ fp) / (weights[rows] @ images)[:, None]
            areas[rows] = [froc_area(f, r) for f, r in zip(false, recall, strict=True)]
        return areas

    return statistic


def _extremes(sweeps: dict[int, Sweep], cases: int) -> tuple[Floats, Floats]:
    lowest, highest = np.full(cases, np.inf), np.full(cases, -np.inf)
    for case, swept in sweeps.items():
        if len(swept.thresholds):
            lowest[case], highest[case] = swept.thresholds[-1], swept.thresholds[0]
    return lowest, highest


def _at_thresholds(sweeps: dict[int, Sweep], extremes: Floats, cases: int) -> tuple[Floats, Floats]:
    thresholds = froc_thresholds(extremes[0], extremes[1])
    tp, fp = np.zeros((cases, len(thresholds))), np.zeros((cases, len(thresholds)))
    for case, swept in sweeps.items():
        tp[case], fp[case] = swept.at_each(thresholds)
    return tp, fp
