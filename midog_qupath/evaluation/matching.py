"""Which predictions hit which mitotic figures: the rule of the MIDOG challenge.

Ground truths are taken one by one; each takes the nearest prediction within 7.5 um (inclusive) that none
before it took. What is left of the predictions are false positives, a duplicate too. The challenge takes
ground truths in the order of its file; here they are taken in (y, x) order, so that the result does not
depend on the order of a file, unless ``in_order`` asks for the challenge's own way. (evalutils 0.4.2
``score_detection``; MIDOG25_T1_evaluation_docker.)
"""

from __future__ import annotations

from collections.abc import Iterable
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


def match(
    truth: Points, predictions: Points, radius: float = MATCH_RADIUS, *, in_order: bool = False
) -> Matching:
    """Match (N, 2) true positions with (M, 2) predicted ones, x, y in the unit of ``radius`` (microns).

    Of predictions equally near, the first is taken. ``in_order``: truths are taken as they are given.
    """
    free = np.ones(len(predictions), dtype=bool)
    hits: list[tuple[int, int]] = []
    missed: list[int] = []
    near = _near(truth, predictions, radius)
    for index in _turns(truth, in_order):
        taken = next((p for p in near[index] if free[p]), None)
        if taken is None:
            missed.append(int(index))
        else:
            free[taken] = False
            hits.append((int(index), taken))
    return Matching(tuple(hits), tuple(sorted(missed)), tuple(np.flatnonzero(free).tolist()))


def hits_gained(
    truth: Points,
    predictions: Points,
    order: Iterable[int],
    radius: float = MATCH_RADIUS,
    *,
    in_order: bool = False,
) -> NDArray[np.bool_]:
    """Which predictions bring :func:`match` one hit more when they join it one by one in ``order``.

    Summed up along ``order`` these are the hits at every threshold, from one pass. A new prediction never
    costs a hit: a truth that likes it better frees its former one for the truths after it.

    Parameters
    ----------
    truth, predictions
        (N, 2) and (M, 2) x, y in the unit of ``radius`` (microns).
    order
        Indices of predictions, each at most once.
    in_order
        As for :func:`match`.

    Returns
    -------
    (M,) bool.
    """
    gained = np.zeros(len(predictions), dtype=bool)
    wishes = _wishes(truth, predictions, radius, in_order)
    held: dict[int, tuple[int, int]] = {}
    for index in order:
        gained[index] = index in wishes and _join(int(index), wishes, held)
    return gained


def _join(index: int, wishes: dict[int, list[tuple[int, int]]], held: dict[int, tuple[int, int]]) -> bool:
    # ``held``: turn of a truth -> (rank, prediction) that it has. True if a truth had none before.
    first = 0
    while True:
        for turn, rank in wishes[index]:
            if turn >= first and (turn not in held or rank < held[turn][0]):
                break
        else:
            return False
        freed = held.get(turn)
        held[turn] = (rank, index)
        if freed is None:
            return True
        index, first = freed[1], turn + 1


def _wishes(
    truth: Points, predictions: Points, radius: float, in_order: bool
) -> dict[int, list[tuple[int, int]]]:
    # For each prediction near a truth: (turn of the truth, its rank among the truth's predictions).
    near = _near(truth, predictions, radius)
    wishes: dict[int, list[tuple[int, int]]] = {}
    for turn, index in enumerate(_turns(truth, in_order)):
        for rank, prediction in enumerate(near[index]):
            wishes.setdefault(prediction, []).append((turn, rank))
    return wishes


def _turns(truth: Points, in_order: bool) -> list[int]:
    if in_order or not len(truth):
        return list(range(len(truth)))
    turns: list[int] = np.lexsort((truth[:, 0], truth[:, 1])).tolist()
    return turns


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
