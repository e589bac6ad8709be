"""Where the centre of a counting window may lie: enough of the window must be tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from shapely.geometry.base import BaseGeometry

from midog_qupath.counting.raster import rasterise
from midog_qupath.counting.window import Window

Floats = NDArray[np.float64]
#: Share of a window that must be tissue, and what rounding may cost of it.
LEAST_TISSUE, _SURE = 0.9, 1e-4
#: Cells of the grid along half a window; and at most so many along the ground.
_FINE, _MOST = 64, 2048


@dataclass(frozen=True)
class Ground:
    """Centres (x, y) with ``level`` >= 0, on a grid of square cells.

    ``level`` (R + 1, C + 1): share of tissue in the window around each corner of a cell, less what is needed.
    Each cell is two triangles, cut from its upper left to its lower right corner, with the level linear on
    each: the border of where centres may lie is a line of straight pieces, true to the tissue to a few
    hundredths of a cell.
    """

    x: float
    y: float
    side: float
    level: Floats

    def holds(self, points: Floats) -> NDArray[np.bool_]:
        """Which of (N, 2) centres are allowed."""
        return self.level_at(points) >= -1e-9

    def level_at(self, points: Floats) -> Floats:
        """The level at (N, 2) points inside the grid."""
        rows, columns = self.level.shape
        u, v = (points[:, 0] - self.x) / self.side, (points[:, 1] - self.y) / self.side
        column = np.clip(np.floor(u), 0, columns - 2).astype(np.int64)
        row = np.clip(np.floor(v), 0, rows - 2).astype(np.int64)
        u, v = u - column, v - row
        a, d = self.level[row, column], self.level[row + 1, column + 1]
        upper, lower = self.level[row, column + 1], self.level[row + 1, column]
        return np.where(u >= v, a + (upper - a) * u + (d - upper) * v, a + (d - lower) * u + (lower - a) * v)

    def border(self, row: int, column: int) -> list[tuple[Floats, Floats]]:
        """The pieces of the border of the allowed ground in one cell, from point to point."""
        corner = np.array([self.x + column * self.side, self.y + row * self.side])
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * self.side + corner
        level = np.array(
            [
                self.level[row, column],
                self.level[row, column + 1],
                self.level[row + 1, column + 1],
                self.level[row + 1, column],
            ]
        )
        pieces = (_piece(unit[list(t)], level[list(t)]) for t in ((0, 1, 2), (0, 2, 3)))
        return [piece for piece in pieces if piece is not None]

    def cells(self) -> NDArray[np.bool_]:
        """(R, C): whether any of a cell is allowed."""
        allowed = self.level >= 0
        return allowed[:-1, :-1] | allowed[1:, :-1] | allowed[:-1, 1:] | allowed[1:, 1:]

    def inner(self) -> NDArray[np.bool_]:
        """(R, C): whether all of a cell is allowed."""
        allowed = self.level >= 0
        return allowed[:-1, :-1] & allowed[1:, :-1] & allowed[:-1, 1:] & allowed[1:, 1:]


def _piece(corners: Floats, level: Floats) -> tuple[Floats, Floats] | None:
    """Where a triangle's level is 0, as a segment; None where it is nowhere."""
    ends = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        if (level[a] >= 0) != (level[b] >= 0):
            share = level[a] / (level[a] - level[b])
            ends.append(corners[a] + share * (corners[b] - corners[a]))
    return (ends[0], ends[1]) if len(ends) == 2 else None


def allowed_ground(tissue: BaseGeometry, window: Window) -> Ground | None:
    """Where windows have their centre so that at least 90 % of them is ``tissue`` (a valid area).

    None where no window fits.
    """
    if tissue.is_empty:
        return None
    x0, y0, x1, y1 = tissue.bounds
    half = min(window.half_x, window.half_y)
    side = max(half / _FINE, (x1 - x0) / _MOST, (y1 - y0) / _MOST)
    shape = (math.ceil((y1 - y0) / side) + 1, math.ceil((x1 - x0) / side) + 1)
    covered = rasterise(tissue, x0, y0, side, shape)
    reach_x, reach_y = math.ceil(window.half_x / side), math.ceil(window.half_y / side)
    outline = window.polygon(reach_x * side, reach_y * side)
    kernel = rasterise(outline, 0, 0, side, (2 * reach_y, 2 * reach_x))
    whole = fftconvolve(covered, kernel[::-1, ::-1]) / kernel.sum()
    share = whole[reach_y - 1 : reach_y + shape[0], reach_x - 1 : reach_x + shape[1]]
    level = share - (LEAST_TISSUE + _SURE)
    return Ground(x0, y0, side, level) if (level >= 0).any() else None
