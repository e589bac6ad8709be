"""How an image is cut: large windows where there is tissue all over, tight ones along its border.

The network needs to see a halo around what it answers for, and that is computed twice by neighbours. Large
windows waste little on it; windows cut close to the tissue waste little on glass. Cores never overlap.

All lengths are working pixels (tile pixels at the model's resolution) unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from midog_qupath.inference.grid import SIZE_MULTIPLE, Tile, even_length, round_up

#: White that is computed past the image's own edge, where there is nothing to see.
EDGE = 64
#: Side of the squares that are taken or left by whether they meet the area.
_CELL = 128
#: A cut must save this share of a window.
_WORTH = 0.01

#: x0, y0, x1, y1.
Rectangle: TypeAlias = tuple[int, int, int, int]
Needed: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Cutting:
    """``core``: largest side of a core; ``halo`` around it; cores start at multiples of ``align``."""

    core: int
    halo: int
    align: int = SIZE_MULTIPLE

    def __post_init__(self) -> None:
        if self.core % SIZE_MULTIPLE or self.halo % SIZE_MULTIPLE or self.core <= 0 or self.halo < 0:
            raise ValueError(f"core {self.core} and halo {self.halo} must be multiples of {SIZE_MULTIPLE}")


def cut_image(
    size: tuple[int, int], cutting: Cutting, area: BaseGeometry | None, downsample: float, reach: float
) -> list[Tile]:
    """Windows for an area, row by row; each of its pixels lies in exactly one core.

    Parameters
    ----------
    size
        Width, height of the image.
    area
        Slide pixels; None for the whole image.
    downsample
        Slide pixels per working pixel.
    reach
        How far outside the area a pixel is still needed.
    """
    align = cutting.align if cutting.core % cutting.align == 0 else SIZE_MULTIPLE
    if area is None:
        cores = _split((0, 0, round_up(size[0]), round_up(size[1])), cutting.core, align)
        return [_tile(core, size, cutting.halo) for core in cores]
    cell = min(_CELL, cutting.core)
    needed = _needed(size, area, downsample, reach, cell)
    rectangles = _cut(needed, (0, 0), cutting.core // cell, 2 * cutting.halo / cell)
    edge = (round_up(size[0]), round_up(size[1]))
    cores = [
        core
        for x0, y0, x1, y1 in rectangles
        for core in _split(
            (x0 * cell, y0 * cell, min(x1 * cell, edge[0]), min(y1 * cell, edge[1])), cutting.core, cell
        )
    ]
    return [_tile(core, size, cutting.halo) for core in cores]


def _split(rectangle: Rectangle, largest: int, multiple: int) -> list[Rectangle]:
    """A rectangle in even pieces with sides of at most ``largest``, row by row."""
    x0, y0, x1, y1 = rectangle
    across, down = (even_length(side, largest, multiple) for side in (x1 - x0, y1 - y0))
    return [
        (x, y, min(x + across, x1), min(y + down, y1))
        for y in range(y0, y1, down)
        for x in range(x0, x1, across)
    ]


def _needed(size: tuple[int, int], area: BaseGeometry, downsample: float, reach: float, cell: int) -> Needed:
    """(rows, columns) which squares of side ``cell`` meet the area; large ones first, to be quick."""
    width, height = size
    needed = np.zeros((-(-height // cell), -(-width // cell)), dtype=np.bool_)
    many = 32
    blocks = [
        (x, y, min(x + many, needed.shape[1]), min(y + many, needed.shape[0]))
        for y in range(0, needed.shape[0], many)
        for x in range(0, needed.shape[1], many)
    ]
    scaled = [_scaled(block, cell) for block in blocks]
    for block, touched in zip(blocks, _touching(scaled, area, downsample, reach), strict=True):
        if not touched:
            continue
        x0, y0, x1, y1 = block
        if shapely.contains(area, shapely.box(*_scaled(block, cell * downsample))):
            needed[y0:y1, x0:x1] = True
            continue
        cells = [_scaled((x, y, x + 1, y + 1), cell) for y in range(y0, y1) for x in range(x0, x1)]
        needed[y0:y1, x0:x1] = _touching(cells, area, downsample, reach).reshape(y1 - y0, x1 - x0)
    return needed


def _scaled(rectangle: Rectangle, by: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = rectangle
    return (x0 * by, y0 * by, x1 * by, y1 * by)


def _touching(
    boxes: Sequence[tuple[float, float, float, float]], area: BaseGeometry, downsample: float, reach: float
) -> Needed:
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    grown = (corners + np.array([-reach, -reach, reach, reach])) * downsample
    shapely.prepare(area)
    return np.asarray(shapely.intersects(shapely.box(*grown.T), area), dtype=np.bool_)


def _cut(needed: Needed, corner: tuple[int, int], largest: int, halo: float) -> list[Rectangle]:
    """Rectangles that hold every needed cell, cut wherever that makes cores and halos smaller together.

    ``corner``: x, y of ``needed[0, 0]``; ``largest``: side of a core, ``halo``: both sides of it, in cells.
    """
    bounds = _bounds(needed)
    if bounds is None:
        return []
    x0, y0, x1, y1 = bounds
    inside = needed[y0:y1, x0:x1]
    corner = (corner[0] + x0, corner[1] + y0)
    size = (x1 - x0, y1 - y0)
    whole = float(_cost(np.array(size[0]), np.array(size[1]), largest, halo))
    best, axis, at = whole, 0, 0
    # Costs of all cuts at once, from how far the needed cells of each row and column reach.
    for along, cells in ((0, inside), (1, inside.T)) if not inside.all() else ():
        costs = _cut_costs(cells, largest, halo)
        if len(costs) and costs.min() < best:
            best, axis, at = float(costs.min()), along, int(costs.argmin()) + 1
    if best <= whole * (1 - _WORTH):
        first, second = np.split(inside, [at], axis=axis)
        beyond = (corner[0], corner[1] + at) if axis == 0 else (corner[0] + at, corner[1])
        return [*_cut(first, corner, largest, halo), *_cut(second, beyond, largest, halo)]
    if max(size) <= largest or inside.all():
        return [(corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])]
    # Too large for one window all the same: each of its pieces can be cut closer.
    pieces = _split((0, 0, *size), largest, 1)
    return [
        rectangle
        for left, top, right, bottom in pieces
        for rectangle in _cut(
            inside[top:bottom, left:right], (corner[0] + left, corner[1] + top), largest, halo
        )
    ]


def _cut_costs(needed: Needed, largest: int, halo: float) -> NDArray[np.float64]:
    """(rows - 1,) cost of what is needed above and below each horizontal cut; no row at the rim is empty."""
    rows, columns = needed.shape
    filled = needed.any(axis=1)
    first = np.where(filled, needed.argmax(axis=1), columns)
    last = np.where(filled, columns - needed[:, ::-1].argmax(axis=1), 0)
    row = np.arange(rows)
    highest, lowest = np.where(filled, row, -1), np.where(filled, row, rows)
    above = _cost(
        (np.maximum.accumulate(last) - np.minimum.accumulate(first))[:-1],
        np.maximum.accumulate(highest)[:-1] + 1,
        largest,
        halo,
    )
    below = _cost(
        (np.maximum.accumulate(last[::-1]) - np.minimum.accumulate(first[::-1]))[::-1][1:],
        rows - np.minimum.accumulate(lowest[::-1])[::-1][1:],
        largest,
        halo,
    )
    return np.asarray(above + below, dtype=np.float64)


def _bounds(needed: Needed) -> Rectangle | None:
    rows, columns = np.flatnonzero(needed.any(axis=1)), np.flatnonzero(needed.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _cost(
    width: NDArray[np.int64], height: NDArray[np.int64], largest: int, halo: float
) -> NDArray[np.float64]:
    """Pixels of the windows (in cells) that a rectangle of so many cells takes."""
    across, down = -(-width // largest), -(-height // largest)
    return np.asarray((width + across * halo) * (height + down * halo), dtype=np.float64)


def _tile(core: Rectangle, size: tuple[int, int], halo: int) -> Tile:
    """``core`` with its halo, which past the image's edge ends after :data:`EDGE`."""
    x0, y0, x1, y1 = core
    room = (x0, y0, round_up(size[0]) - x1, round_up(size[1]) - y1)
    left, top, right, below = (min(halo, space + EDGE) for space in room)
    width, height = left + x1 - x0 + right, top + y1 - y0 + below
    return Tile(x0, y0, min(x1, size[0]) - x0, min(y1, size[1]) - y0, left, top, width, height)
