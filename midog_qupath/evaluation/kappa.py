"""Cohen's kappa of two who labelled the same objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.bootstrap import Floats, Statistic


def kappa(table: NDArray[np.int64]) -> float | None:
    """Kappa of a (K, K) table: how often one said i and the other j.

    1 is full agreement, 0 what chance gives; None without an object, or where both only ever say one thing.
    (Cohen, Educ Psychol Meas 20 (1960) 37-46.)
    """
    value = float(kappa_statistic([table])(np.ones((1, 1)))[0])
    return None if np.isnan(value) else value


def kappa_statistic(tables: Sequence[NDArray[np.int64]]) -> Statistic:
    """Kappa of the pooled tables of each case."""
    stacked = np.stack([np.asarray(table, dtype=np.float64) for table in tables])

    def statistic(weights: Floats) -> Floats:
        pooled = np.einsum("rc,cij->rij", weights, stacked)
        total = pooled.sum(axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            observed = np.trace(pooled, axis1=1, axis2=2) / total
            chance = (pooled.sum(axis=1) * pooled.sum(axis=2)).sum(axis=1) / total**2
            return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)

    return statistic
