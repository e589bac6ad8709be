"""Intervals by case: a figure computed again on cases drawn with replacement, all resamples at once.

Objects of one case resemble each other, so cases are drawn, not objects. A figure is given as a function
of how often each case was drawn: (R, C) weights to (R,) values. (Efron and Tibshirani, An Introduction
to the Bootstrap, 1993, chapters 8 and 13.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midog_qupath.evaluation.metrics import EPSILON, Counts, TypeScore

RESAMPLES = 2000

Floats = NDArray[np.float64]
#: From (R, C) how often each case was drawn to (R,) values, NaN where the figure does not exist.
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Interval:
    """A figure or a difference with its 95 % percentile interval; NaN ends where one case says no spread."""

    value: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether a difference of this interval is no effect."""
        return self.low <= 0 <= self.high


def bootstrap(
    statistic: Statistic, cases: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """Interval of a figure over ``cases`` cases; None where the figure does not exist on them.

    Resamples on which it does not exist (no mitosis was drawn) are left out.

    Raises
    ------
    ValueError
        With fewer than two cases: one case says nothing of the spread between cases.
    """
    return _interval(statistic, _draw(cases, seed, resamples))


def paired_bootstrap(
    new: Statistic, old: Statistic, cases: int, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval | None:
    """Interval of ``new - old``, two systems on the same cases in the same order, drawn alike.

    See :func:`bootstrap`.
    """
    return _interval(lambda weights: new(weights) - old(weights), _draw(cases, seed, resamples))


def _draw(cases: int, seed: int, resamples: int) -> Floats:
    if cases < 2:
        raise ValueError("an interval needs at least two cases")
    rng = np.random.default_rng(seed)
    return rng.multinomial(cases, np.full(cases, 1 / cases), size=resamples).astype(np.float64)


def _interval(statistic: Statistic, weights: Floats) -> Interval | None:
    value = float(statistic(np.ones((1, weights.shape[1])))[0])
    if np.isnan(value):
        return None
    drawn = statistic(weights)
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


def f1_statistic(counts: Sequence[Counts]) -> Statistic:
    """Pooled F1 of the counts of each case, as :attr:`Counts.f1`; it does not exist without a mitosis."""
    table = _table([(c.tp, c.fp, c.fn) for c in counts], 3)

    def statistic(weights: Floats) -> Floats:
        tp, fp, fn = (weights @ table).T
        f1 = (2 * tp + EPSILON) / (2 * tp + fp + fn + EPSILON)
        return np.where(tp + fn > 0, f1, np.nan)

    return statistic


def balanced_accuracy_statistic(scores: Sequence[TypeScore]) -> Statistic:
    """Balanced accuracy of the pooled counts of each case."""
    table = _table([(s.n_normal, s.n_atypical, s.normal_right, s.atypical_right) for s in scores], 4)

    def statistic(weights: Floats) -> Floats:
        normal, atypical, normal_right, atypical_right = (weights @ table).T
        with np.errstate(invalid="ignore"):
            return np.asarray((normal_right / normal + atypical_right / atypical) / 2)

    return statistic


def roc_auc_statistic(case: NDArray[np.int64], positive: NDArray[np.bool_], scores: Floats) -> Statistic:
    """Area under the ROC curve of objects of several cases, ties half.

    Parameters
    ----------
    case
        (N,) index of the case of each object, 0 to the number of cases - 1.
    positive, scores
        (N,) labels and scores.
    """
    cases = int(case.max()) + 1 if len(case) else 0
    # won[i, j]: pairs of a positive of case i and a negative of case j that are ranked right.
    won = _pairs_won(case, positive, scores, cases)
    positives, negatives = (np.bincount(case[kind], minlength=cases) for kind in (positive, ~positive))

    def statistic(weights: Floats) -> Floats:
        right = ((weights @ won) * weights).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(right / ((weights @ positives) * (weights @ negatives)))

    return statistic


def _pairs_won(case: NDArray[np.int64], positive: NDArray[np.bool_], scores: Floats, cases: int) -> Floats:
    order = np.flatnonzero(~positive)[np.argsort(scores[~positive], kind="stable")]
    # lower[k, j]: how many of the k lowest negatives are of case j.
    lower = np.zeros((len(order) + 1, cases))
    lower[np.arange(1, len(order) + 1), case[order]] = 1
    lower = np.cumsum(lower, axis=0)
    below = np.searchsorted(scores[order], scores[positive], side="left")
    not_above = np.searchsorted(scores[order], scores[positive], side="right")
    won = np.zeros((cases, cases))
    np.add.at(won, case[positive], (lower[below] + lower[not_above]) / 2)
    return won


def case_index(cases: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The distinct cases, sorted, and the index of each of (N,) names among them."""
    names, index = np.unique(np.array(cases, dtype=str), return_inverse=True)
    return tuple(names.tolist()), np.asarray(index, dtype=np.int64)


def _table(rows: Sequence[ArrayLike], columns: int) -> Floats:
    return np.array(rows, dtype=np.float64).reshape(-1, columns)
