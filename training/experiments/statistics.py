"""Intervals of a figure's mean over folds and seeds: cases are drawn once for all seeds and both rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.bootstrap import (
    Interval,
    Statistic,
    balanced_accuracy_statistic,
    bootstrap,
    f1_statistic,
    paired_bootstrap,
)
from midog_qupath.evaluation.metrics import Counts, TypeScore

Floats = NDArray[np.float64]
#: Counts of one fold: (seeds, cases, kinds of count). A case that a seed did not test counts nothing.
FoldCounts = NDArray[np.int64]
#: The figure of (cases, kinds of count).
Figure = Callable[[NDArray[np.int64]], Statistic]


def f1_figure(counts: NDArray[np.int64]) -> Statistic:
    """F1 of cases with (tp, fp, fn)."""
    return f1_statistic([Counts(*(int(n) for n in row)) for row in counts])


def balanced_accuracy_figure(counts: NDArray[np.int64]) -> Statistic:
    """Balanced accuracy of cases with (normal, atypical, normal right, atypical right)."""
    return balanced_accuracy_statistic([TypeScore(*(int(n) for n in row)) for row in counts])


def estimate(figure: Figure, folds: Sequence[FoldCounts]) -> Interval | None:
    """The mean over folds and seeds of a figure, with its interval; None with fewer than two cases."""
    cases = _cases(folds)
    return bootstrap(_mean(figure, folds), cases) if cases > 1 else None


def paired_difference(
    figure: Figure, new: Sequence[FoldCounts], old: Sequence[FoldCounts]
) -> Interval | None:
    """That of ``new`` less that of ``old``: same folds, same cases in their order, drawn alike."""
    cases = _cases(new)
    return paired_bootstrap(_mean(figure, new), _mean(figure, old), cases) if cases > 1 else None


def _cases(folds: Sequence[FoldCounts]) -> int:
    return sum(counts.shape[1] for counts in folds)


def _mean(figure: Figure, folds: Sequence[FoldCounts]) -> Statistic:
    """The figure of each seed on each fold, averaged; cases of all folds stand one after another."""
    ends = np.cumsum([counts.shape[1] for counts in folds])
    parts = [
        (slice(int(end) - counts.shape[1], int(end)), figure(of_seed))
        for end, counts in zip(ends, folds, strict=True)
        for of_seed in counts
    ]

    def statistic(weights: Floats) -> Floats:
        # As many seeds on each fold: the mean of all is the mean over folds of the mean over seeds.
        return np.asarray(np.mean([value(weights[:, cases]) for cases, value in parts], axis=0))

    return statistic
