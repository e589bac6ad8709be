"""The place from which a window sees most points: the exact maximum, no grid of tries.

Seen the other way round: each point says from where it is seen, a window around itself, and what is wanted
is the place where most of these overlap. The best place that is uppermost, then leftmost, is where two
borders cross, where a border is uppermost, or on the border of the allowed ground: finitely many places.
Cells of a grid are searched from the most promising down; a cell is left out when no place in it can do
better.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from midog_qupath.counting.ground import Ground
from midog_qupath.counting.window import GRACE, Window

Floats = NDArray[np.float64]
#: With fewer borders than this a cell is searched, with more it is cut in four; and never smaller than this
#: share of it.
_FEW, _SMALLEST = 32, 2.0**-12
#: Places whose count is taken at once.
_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Spot:
    """A window's centre and how many points it sees."""

    x: float
    y: float
    count: int

    def beats(self, other: Spot | None) -> bool:
        """More points; else further up; else further left (to a millionth of a pixel)."""
        return other is None or self._rank() < other._rank()

    def _rank(self) -> tuple[int, float, float]:
        return -self.count, round(self.y / GRACE), round(self.x / GRACE)


@dataclass(frozen=True)
class _Cell:
    """A square of the allowed ground. ``sure``: points seen from all of it; ``maybe``: from some of it."""

    x: float
    y: float
    side: float
    row: int
    column: int
    sure: int
    maybe: NDArray[np.int64]
    weight: int

    @property
    def most(self) -> int:
        """No place in it sees more."""
        return self.sure + self.weight


def best_spot(points: Floats, window: Window, ground: Ground) -> Spot | None:
    """The centre on the allowed ground from which most points are seen; of several the uppermost, leftmost.

    Parameters
    ----------
    points
        (N, 2) x, y in the unit of window and ground; finite.
    window
        Its border belongs to it.
    ground
        Where the centre may lie.
    """
    places, weights = np.unique(
        np.asarray(points, dtype=np.float64).reshape(-1, 2), axis=0, return_counts=True
    )
    return _Search(places, weights, window, ground).run()


class _Bins:
    """Points by the cell of the ground's grid in which they lie, and in a margin around it.

    ``most`` (R, C): no place in a cell sees more points. ``sure`` (R, C): points in cells that are seen whole
    from everywhere in a cell; those between are :meth:`undecided`.
    """

    def __init__(self, places: Floats, weights: NDArray[np.int64], window: Window, ground: Ground) -> None:
        side = ground.side
        reach = [math.ceil((half + GRACE) / side) + 1 for half in (window.half_y, window.half_x)]
        rows, columns = (length - 1 for length in ground.level.shape)
        self._reach, self._shape = reach, (rows + 2 * reach[0], columns + 2 * reach[1])
        at = np.floor((places - [ground.x, ground.y]) / side).astype(np.int64) + reach[::-1]
        near = np.flatnonzero(((at >= 0) & (at < self._shape[::-1])).all(axis=1))
        flat = at[near, 1] * self._shape[1] + at[near, 0]
        order = np.argsort(flat, kind="stable")
        self._points = near[order]
        self._ends = np.cumsum(np.bincount(flat, minlength=self._shape[0] * self._shape[1]))
        seen = np.bincount(flat, weights[near], self._shape[0] * self._shape[1])
        counted = np.asarray(seen, dtype=np.float64).reshape(self._shape)
        # Distances between the nearest and the farthest places of two cells, some steps apart.
        steps = [np.abs(np.arange(-r, r + 1)) for r in reach]
        touched, held = (
            window.covers(
                np.stack(np.meshgrid(*(length * side for length in reversed(lengths))), axis=-1), grow
            )
            for lengths, grow in (
                ([np.maximum(s - 1, 0) for s in steps], 0.0),
                ([s + 1 for s in steps], -3 * GRACE),
            )
        )
        self.most, self.sure = (_seen(counted, kernel) for kernel in (touched, held))
        y, x = np.nonzero(touched & ~held)
        self._ring = (y - reach[0]) * self._shape[1] + x - reach[1]

    def undecided(self, row: int, column: int) -> NDArray[np.int64]:
        """Points that are seen from some places of a cell, and a few more."""
        cells = (row + self._reach[0]) * self._shape[1] + column + self._reach[1] + self._ring
        ends = self._ends[cells]
        starts = np.where(cells > 0, self._ends[cells - 1], 0)
        lengths = ends - starts
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        found: NDArray[np.int64] = self._points[np.repeat(starts, lengths) + within]
        return found


def _seen(counted: Floats, kernel: NDArray[np.bool_]) -> NDArray[np.int64]:
    seen: Floats = fftconvolve(counted, kernel.astype(np.float64), mode="valid")
    return np.rint(seen).astype(np.int64)


class _Search:
    def __init__(self, places: Floats, weights: NDArray[np.int64], window: Window, ground: Ground) -> None:
        self._places, self._weights = places, weights
        self._window, self._ground = window, ground
        self._bins = _Bins(places, weights, window, ground)
        self._best: Spot | None = None

    def run(self) -> Spot | None:
        """Cells by what they promise, the most first; of equal ones the uppermost."""
        bounds = self._bins.most
        rows, columns = np.nonzero(self._ground.cells())
        for number in np.argsort(-bounds[rows, columns], kind="stable"):
            row, column = int(rows[number]), int(columns[number])
            if self._best is not None and bounds[row, column] < self._best.count:
                break
            if self._worth(int(bounds[row, column]), self._ground.y + row * self._ground.side):
                self._search(self._cell(row, column))
        return self._best

    def _cell(self, row: int, column: int) -> _Cell:
        side = self._ground.side
        x, y = self._ground.x + column * side, self._ground.y + row * side
        sure = int(self._bins.sure[row, column])
        return self._narrowed(x, y, side, (row, column), sure, self._bins.undecided(row, column))

    def _narrowed(
        self, x: float, y: float, side: float, at: tuple[int, int], sure: int, near: NDArray[np.int64]
    ) -> _Cell:
        offsets = self._places[near] - [x + side / 2, y + side / 2]
        grow = self._window.half_cell(side)
        all_of_it = self._window.covers(offsets, -grow - 3 * GRACE)
        maybe = near[self._window.covers(offsets, grow) & ~all_of_it]
        sure += int(self._weights[near[all_of_it]].sum())
        return _Cell(x, y, side, *at, sure, maybe, int(self._weights[maybe].sum()))

    def _worth(self, most: int, y: float) -> bool:
        best = self._best
        return best is None or most > best.count or (most == best.count and y <= best.y + GRACE)

    def _search(self, start: _Cell) -> None:
        """Search a cell, cut in four as long as too many borders run through it."""
        waiting: list[tuple[int, float, float, _Cell]] = []
        number = 0
        heapq.heappush(waiting, (-start.most, start.y, start.x, start))
        while waiting:
            *_, cell = heapq.heappop(waiting)
            if not self._worth(cell.most, cell.y):
                continue
            if len(cell.maybe) <= _FEW or cell.side <= self._ground.side * _SMALLEST:
                self._solve(cell)
                continue
            for part in self._quarters(cell):
                number += 1
                heapq.heappush(waiting, (-part.most, part.y, part.x, part))

    def _quarters(self, cell: _Cell) -> list[_Cell]:
        half, at = cell.side / 2, (cell.row, cell.column)
        corners = [(cell.x + i * half, cell.y + j * half) for j in (0, 1) for i in (0, 1)]
        if not self._ground.inner(*at):
            # The level is linear on each triangle, so it is highest in a corner.
            unit = np.array([(0, 0), (half, 0), (0, half), (half, half)])
            corners = [c for c in corners if self._ground.holds(np.array(c) + unit).any()]
        return [self._narrowed(x, y, half, at, cell.sure, cell.maybe) for x, y in corners]

    def _solve(self, cell: _Cell) -> None:
        """Count at every place of a cell that can be the best one."""
        near = self._places[cell.maybe]
        candidates = [self._window.corners(near)]
        inner = self._ground.inner(cell.row, cell.column)
        for start, end in () if inner else self._ground.border(cell.row, cell.column):
            candidates += [np.stack([start, end]), self._window.crossings(near, start, end)]
        found = np.concatenate(candidates)
        low, high = np.array([cell.x, cell.y]) - GRACE, np.array([cell.x, cell.y]) + cell.side + GRACE
        found = found[((found >= low) & (found <= high)).all(axis=1)]
        if not inner:
            found = found[self._ground.holds(found)]
        if not len(found):
            return
        counts = cell.sure + self._seen(found, cell.maybe)
        top = found[counts == counts.max()]
        y, x = np.round(top[:, 1] / GRACE), np.round(top[:, 0] / GRACE)
        first = top[np.lexsort((x, y))[0]]
        spot = Spot(float(first[0]), float(first[1]), int(counts.max()))
        if spot.beats(self._best):
            self._best = spot

    def _seen(self, candidates: Floats, maybe: NDArray[np.int64]) -> NDArray[np.int64]:
        parts = np.array_split(candidates, max(1, len(candidates) * len(maybe) // _AT_ONCE))
        near, weights = self._places[maybe], self._weights[maybe]
        return np.concatenate(
            [self._window.covers(near[None] - part[:, None]) @ weights for part in parts]
        ).astype(np.int64)
