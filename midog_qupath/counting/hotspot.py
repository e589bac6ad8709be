"""The place from which a window sees most points: the exact maximum, no grid of tries.

Seen the other way round: each point says from where it is seen, a window around itself, and what is wanted
is the place where most of these overlap. The best place that is uppermost, then leftmost, is where two
borders cross, where a border is uppermost, or on the border of the allowed ground: finitely many places.
The ground is searched in squares, from the most promising down. A square is left out when no place in it can
do better, cut in four when many borders run through it, and else every such place in it is tried. Many
squares are treated at once: where points lie evenly, a great many promise nearly the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from midog_qupath.counting.ground import Ground
from midog_qupath.counting.window import GRACE, Window

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
#: With so few borders a square is searched, with more it is cut in four; never smaller than this share of a
#: cell of the ground.
_FEW, _SMALLEST = 8, 2.0**-12
#: Cells of the ground along a block, with which the search starts; blocks of the first look, and of any.
_BLOCK, _FIRST, _MOST = 2, 16, 512
#: Pairs of a square and a point, and of a place and a point, that are in memory at once.
_PAIRS, _AT_ONCE = 50_000, 2_000_000


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
class _Squares:
    """N squares of one size.

    ``corner`` (N, 2): upper left x, y. ``sure`` (N,): how many points are seen from all of a square.
    ``points``: numbers of those that are seen from some of it only, square by square, ``lengths`` (N,) of
    each; ``weight`` (N,): how many they are.
    """

    corner: Floats
    side: float
    sure: Ints
    points: Ints
    lengths: Ints
    weight: Ints

    @property
    def most(self) -> Ints:
        """No place in a square sees more."""
        return self.sure + self.weight

    def take(self, chosen: Ints) -> _Squares:
        """Some of them, in the order given."""
        starts, lengths = (np.cumsum(self.lengths) - self.lengths)[chosen], self.lengths[chosen]
        points = self.points[_ranges(starts, lengths)]
        return _Squares(
            self.corner[chosen], self.side, self.sure[chosen], points, lengths, self.weight[chosen]
        )


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """``starts[0]``, ``starts[0] + 1``, ... (``lengths[0]`` of them), ``starts[1]``, ..."""
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ranges: Ints = np.repeat(starts, lengths) + within
    return ranges


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
    """Points by the square of a grid over the ground in which they lie, and in a margin around it.

    ``most`` (R, C): no place in a square sees more points. ``sure`` (R, C): points in squares that are seen
    whole from everywhere in a square; those between are :meth:`undecided`.
    """

    def __init__(self, places: Floats, weights: Ints, window: Window, ground: Ground, block: int) -> None:
        side = self.side = ground.side * block
        reach = [math.ceil((half + GRACE) / side) + 1 for half in (window.half_y, window.half_x)]
        rows, columns = (math.ceil((length - 1) / block) for length in ground.level.shape)
        self._reach, self._shape = reach, (rows + 2 * reach[0], columns + 2 * reach[1])
        at = np.floor((places - [ground.x, ground.y]) / side).astype(np.int64) + reach[::-1]
        near = np.flatnonzero(((at >= 0) & (at < self._shape[::-1])).all(axis=1))
        flat = at[near, 1] * self._shape[1] + at[near, 0]
        self._points = near[np.argsort(flat, kind="stable")]
        self._ends = np.cumsum(np.bincount(flat, minlength=self._shape[0] * self._shape[1]))
        seen = np.bincount(flat, weights[near], self._shape[0] * self._shape[1])
        counted = np.asarray(seen, dtype=np.float64).reshape(self._shape)
        # Distances between the nearest and the farthest places of two squares, some steps apart.
        steps = [np.abs(np.arange(-r, r + 1)) for r in reach]
        touched, held = (
            window.beyond(np.stack(np.meshgrid(*(length * side for length in reversed(lengths))), axis=-1))
            <= limit
            for lengths, limit in (
                ([np.maximum(s - 1, 0) for s in steps], GRACE),
                ([s + 1 for s in steps], -2 * GRACE),
            )
        )
        self.most, self.sure = (_seen(counted, kernel) for kernel in (touched, held))
        y, x = np.nonzero(touched & ~held)
        self._ring = (y - reach[0]) * self._shape[1] + x - reach[1]

    def undecided(self, rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
        """Points that are seen from some places of each of N squares, and a few more; (N,) how many."""
        middle = (rows + self._reach[0]) * self._shape[1] + columns + self._reach[1]
        squares = middle[:, None] + self._ring
        starts = np.where(squares > 0, self._ends[squares - 1], 0)
        lengths = self._ends[squares] - starts
        return self._points[_ranges(starts.ravel(), lengths.ravel())], lengths.sum(axis=1)


def _seen(counted: Floats, kernel: Mask) -> Ints:
    seen: Floats = fftconvolve(counted, kernel.astype(np.float64), mode="valid")
    return np.rint(seen).astype(np.int64)


class _Search:
    def __init__(self, places: Floats, weights: Ints, window: Window, ground: Ground) -> None:
        self._window, self._ground = window, ground
        self._inner = ground.inner()
        cells = _Bins(places, weights, window, ground, 1).most
        self._cells = np.where(ground.cells(), cells, -1)
        self._blocks = _Bins(places, weights, window, ground, _BLOCK)
        # Number -1 stands for no point: it is seen from nowhere.
        self._places = np.concatenate([places, [[np.nan, np.nan]]])
        self._weights = np.concatenate([weights, [0]])
        self._best: Spot | None = None
        # From some place so many are seen; which is the best of those may not be known yet.
        self._floor = 0

    def run(self) -> Spot | None:
        """Blocks of cells by what they promise, the most first; of equal ones the uppermost."""
        promise = _largest(self._cells, _BLOCK)
        rows, columns = np.nonzero(promise >= 0)
        order = np.argsort(-promise[rows, columns], kind="stable")
        rows, columns, most = rows[order], columns[order], promise[rows, columns][order]
        side = self._blocks.side
        corners = np.column_stack([self._ground.x + columns * side, self._ground.y + rows * side])
        done, size = 0, _FIRST
        while done < len(order) and most[done] >= self._floor:
            part = np.arange(done, min(done + size, len(order)))
            part = part[self._worth(most[part], corners[part, 1])]
            points, lengths = self._blocks.undecided(rows[part], columns[part])
            sure = self._blocks.sure[rows[part], columns[part]]
            self._search(self._narrowed(corners[part], side, sure, points, lengths))
            done, size = done + size, min(2 * size, _MOST)
        return self._best

    def _worth(self, most: Ints, y: Floats) -> Mask:
        """Whether squares that promise so much and begin so far down can hold a better place."""
        best = self._best
        if best is None or best.count < self._floor:
            return np.asarray(most >= self._floor)
        return np.asarray((most > best.count) | ((most == best.count) & (y <= best.y + GRACE)))

    def _narrowed(self, corner: Floats, side: float, sure: Ints, points: Ints, lengths: Ints) -> _Squares:
        """Squares; of ``points`` stay those that are seen from some places of theirs, not from all."""
        count, middle = len(corner), corner + side / 2
        owners = np.repeat(np.arange(count), lengths)
        beyond = self._window.beyond(self._places[points] - middle[owners])
        grow = self._window.half_cell(side)
        everywhere = beyond <= -grow - 2 * GRACE
        sure = sure + self._counted(owners[everywhere], points[everywhere], count)
        some = np.flatnonzero(~everywhere & (beyond <= grow + GRACE))
        owners, points, beyond = owners[some], points[some], beyond[some]
        if side <= self._ground.side:
            # Well inside the borders, so that a place that is tried sees no less.
            clear = beyond <= -2 * GRACE
            self._raise_floor(middle, sure + self._counted(owners[clear], points[clear], count))
        lengths = np.bincount(owners, minlength=count)
        return _Squares(corner, side, sure, points, lengths, self._counted(owners, points, count))

    def _counted(self, owners: Ints, points: Ints, count: int) -> Ints:
        return np.bincount(owners, self._weights[points], count).astype(np.int64)

    def _raise_floor(self, places: Floats, seen: Ints) -> None:
        better = seen > self._floor
        allowed = self._ground.level_at(places[better]) >= 0
        self._floor = max(self._floor, int(seen[better][allowed].max(initial=0)))

    def _search(self, start: _Squares) -> None:
        """Search squares, cut into smaller ones as long as too many borders run through them."""
        waiting = [start]
        while waiting:
            squares = self._promising(waiting.pop())
            if squares.side > self._ground.side:
                few = np.zeros(len(squares.sure), dtype=np.bool_)
            else:
                few = (squares.lengths <= _FEW) | (squares.side <= self._ground.side * _SMALLEST)
            for part in _portions(squares.take(np.flatnonzero(few))):
                self._solve(part)
            rest = self._promising(squares.take(np.flatnonzero(~few)))
            if len(rest.sure):
                waiting += reversed(list(_portions(self._parts(rest))))

    def _promising(self, squares: _Squares) -> _Squares:
        return squares.take(np.flatnonzero(self._worth(squares.most, squares.corner[:, 1])))

    def _parts(self, squares: _Squares) -> _Squares:
        """Blocks as cells, cells in quarters; what has no allowed ground is left out. The best come first."""
        cut = _BLOCK if squares.side > self._ground.side else 2
        side = squares.side / cut
        steps = np.stack(np.meshgrid(np.arange(cut), np.arange(cut)), axis=-1).reshape(-1, 2) * side
        corner = (squares.corner[:, None] + steps).reshape(-1, 2)
        kept = np.flatnonzero(self._allowed(corner, side))
        parts = squares.take(kept // len(steps))
        found = self._narrowed(corner[kept], side, parts.sure, parts.points, parts.lengths)
        return found.take(np.argsort(-found.most, kind="stable"))

    def _cell(self, middle: Floats) -> tuple[Ints, Ints]:
        """Row and column of the cells in which (N, 2) places lie."""
        column, row = np.floor((middle - [self._ground.x, self._ground.y]) / self._ground.side).T
        return row.astype(np.int64), column.astype(np.int64)

    def _allowed(self, corner: Floats, side: float) -> Mask:
        """Which squares with these upper left corners hold allowed ground; of whole cells, those worth it."""
        row, column = self._cell(corner + side / 2)
        if side == self._ground.side:
            inside = (row < len(self._cells)) & (column < self._cells.shape[1])
            most = self._cells[row[inside], column[inside]]
            inside[inside] = (most >= 0) & self._worth(most, corner[inside, 1])
            return np.asarray(inside)
        allowed: Mask = self._inner[row, column]
        # The level is linear on each triangle, so it is highest in a corner.
        ends: Floats = corner[~allowed, None] + side * np.array([(0, 0), (1, 0), (0, 1), (1, 1)])
        allowed[~allowed] = self._ground.holds(ends.reshape(-1, 2)).reshape(-1, 4).any(axis=1)
        return allowed

    def _solve(self, squares: _Squares) -> None:
        """Count at every place of some squares that can be the best one."""
        points = np.full((len(squares.sure), max(1, squares.lengths.max(initial=0))), -1)
        points[np.arange(points.shape[1]) < squares.lengths[:, None]] = squares.points
        places, owners = self._tries(squares, points)
        if not len(places):
            return
        counts = squares.sure[owners] + self._seen(places, points[owners])
        top = places[counts == counts.max()]
        y, x = np.round(top[:, 1] / GRACE), np.round(top[:, 0] / GRACE)
        first = top[np.lexsort((x, y))[0]]
        spot = Spot(float(first[0]), float(first[1]), int(counts.max()))
        self._floor = max(self._floor, spot.count)
        if spot.beats(self._best):
            self._best = spot

    def _tries(self, squares: _Squares, points: Ints) -> tuple[Floats, Ints]:
        """Allowed (K, 2) places in (N,) squares that can be the best one, and (K,) their squares.

        ``points`` (N, M): those seen from some of each square.
        """
        low, high = squares.corner - GRACE, squares.corner + squares.side + GRACE
        rows, columns = self._cell(squares.corner + squares.side / 2)
        inner = self._inner[rows, columns]
        found = self._window.corners(self._places[points])
        owners, which = np.nonzero(((found >= low[:, None]) & (found <= high[:, None])).all(axis=2))
        places, squares_of = [found[owners, which]], [owners]
        for number in np.flatnonzero(~inner):
            near = self._places[points[number]]
            for start, end in self._ground.border(int(rows[number]), int(columns[number])):
                tried = np.concatenate([[start, end], self._window.crossings(near, start, end)])
                tried = tried[((tried >= low[number]) & (tried <= high[number])).all(axis=1)]
                places.append(tried)
                squares_of.append(np.full(len(tried), number))
        tries, owners = np.concatenate(places), np.concatenate(squares_of)
        allowed = inner[owners]
        allowed[~allowed] = self._ground.holds(tries[~allowed])
        return tries[allowed], owners[allowed]

    def _seen(self, places: Floats, points: Ints) -> Ints:
        """(K,) how many of each row of (K, M) points are seen from (K, 2) places."""
        seen = [np.empty(0, dtype=np.int64)]
        step = max(1, _AT_ONCE // points.shape[1])
        for first in range(0, len(places), step):
            part = points[first : first + step]
            covered = self._window.covers(self._places[part] - places[first : first + step, None])
            seen.append((self._weights[part] * covered).sum(axis=1))
        return np.concatenate(seen)


def _portions(squares: _Squares) -> Iterator[_Squares]:
    """Squares a memory's worth at a time, those with many points alone."""
    ends = np.cumsum(squares.lengths + _FEW) // _PAIRS
    cuts = np.flatnonzero(np.diff(ends)) + 1
    for part in np.split(np.arange(len(squares.sure)), cuts):
        if len(part):
            yield squares.take(part)


def _largest(values: Ints, block: int) -> Ints:
    """The largest value of each ``block`` x ``block`` of a grid, -1 beyond it."""
    rows, columns = (-(-length // block) for length in values.shape)
    padded = np.full((rows * block, columns * block), -1, dtype=values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    largest: Ints = padded.reshape(rows, block, columns, block).max(axis=(1, 3))
    return largest
