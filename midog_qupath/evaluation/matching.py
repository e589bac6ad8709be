"""Which predictions hit which mitotic figures: the rule of the MIDOG challenge.

Ground truths are taken one by one; each takes the nearest prediction within 7.5 um (inclusive) that none
before it took. What is left of the predictions are false positives, a duplicate too. The challenge takes
ground truths in the order of its file; here they are taken in (y, x) order, so that the result does not
depend on the order of a file. (evalutils 0.4.2 ``score_detection``; MIDOG25_T1_evaluation_docker.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from midog_qupath.units import MATCH_RADIUS

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Matching:
    """``hits``: (truth index, prediction index) pairs; the others by their index, ascending."""

    hits: tuple[tuple[int, int], ...]
    missed: tuple[int, ...]
    false_positives: tuple[int, ...]


def match(truth: Points, predictions: Points, radius: float = MATCH_RADIUS) -> Matching:
    """Match (N, 2) true positions with (M, 2) predicted ones, x, y in the unit of ``radius`` (microns).

    Of predictions equally near, the first is taken.
    """
    free = np.ones(len(predictions), dtype=bool)
    hits: list[tuple[int, int]] = []
    missed: list[int] = []
    near = _near(truth, predictions, radius)
    for index in np.lexsort((truth[:, 0], truth[:, 1])) if len(truth) else ():
        taken = next((p for p in near[index] if free[p]), None)
        if taken is None:
            missed.append(int(index))
        else:
            free[taken] = False
            hits.append((int(index), taken))
    return Matching(tuple(hits), tuple(sorted(missed)), tuple(np.flatnonzero(free).tolist()))


def _near(truth: Points, predictions: Points, radius: float) -> list[list[int]]:
    # For each truth the predictions within the radius, nearest first.
    if not len(truth) or not len(predictions):
        return [[] for _ in truth]
    found = cKDTree(predictions).query_ball_point(truth, radius, return_sorted=True)
    ordered = []
    for position, indices in zip(truth, found, strict=True):
        distance = np.square(predictions[indices] - position).sum(axis=1)
        ordered.append([indices[i] for i in np.argsort(distance, kind="stable")])
    return ordered
