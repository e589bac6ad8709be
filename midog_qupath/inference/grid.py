"""Which windows of an image the network sees: cores cover an area exactly once, halos give them context.

All lengths here are working pixels (tile pixels at the model's resolution).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

#: Input height and width of the network must be multiples of this.
SIZE_MULTIPLE = 32


@dataclass(frozen=True)
class Tile:
    """One window: its core starts at ``x``, ``y`` and measures ``width`` x ``height``.

    The window starts ``left`` and ``top`` before that and measures ``window_width`` x ``window_height``.
    ``mirrored``: outside the core its own pixels are reflected (a mosaic's cell, whose neighbours are other
    tissue) instead of read.
    """

    x: float
    y: float
    width: int
    height: int
    left: int
    top: int
    window_width: int
    window_height: int
    mirrored: bool = False

    @property
    def pixels(self) -> int:
        """Pixels of the window."""
        return self.window_width * self.window_height


def grid_tiles(width: int, height: int, tile: int, halo: int) -> list[Tile]:
    """Cover ``width`` x ``height`` working pixels by cores of equal size, row by row, each pixel once.

    The largest core is ``tile``; as many are taken as needed and all are made as small as that number
    allows (a multiple of 32), so that little is computed past the image's edge. All windows of a grid have
    one size. ``tile`` and ``halo`` must be multiples of 32.
    """
    if tile % SIZE_MULTIPLE or halo % SIZE_MULTIPLE or tile <= 0 or halo < 0:
        raise ValueError(f"tile {tile} and halo {halo} must be multiples of {SIZE_MULTIPLE}")
    across, down = even_length(width, tile), even_length(height, tile)
    return [
        Tile(
            x,
            y,
            min(across, width - x),
            min(down, height - y),
            halo,
            halo,
            across + 2 * halo,
            down + 2 * halo,
        )
        for y in range(0, height, down)
        for x in range(0, width, across)
    ]


def cell_tiles(width: float, height: float, cell: float, halo: int) -> list[Tile]:
    """One mirrored tile for each cell of side ``cell`` (working pixels, not always whole) of a mosaic.

    A cell cut by the image's edge is as small as what is left of it.
    """
    columns, rows = math.ceil(width / cell - 1e-6), math.ceil(height / cell - 1e-6)
    window = round_up(round(cell) + 2 * halo)
    tiles = []
    for row in range(rows):
        for column in range(columns):
            x, y = column * cell, row * cell
            core_width, core_height = (
                max(1, round(min(cell, end - at))) for end, at in ((width, x), (height, y))
            )
            tiles.append(Tile(x, y, core_width, core_height, halo, halo, window, window, mirrored=True))
    return tiles


def touching(tiles: Iterable[Tile], area: BaseGeometry, downsample: float, reach: float) -> list[Tile]:
    """The tiles whose core, widened by ``reach`` working pixels, meets ``area`` (slide pixels)."""
    listed = list(tiles)
    corners = np.array([(t.x, t.y, t.x + t.width, t.y + t.height) for t in listed], dtype=np.float64)
    grown = (corners.reshape(-1, 4) + np.array([-reach, -reach, reach, reach])) * downsample
    shapely.prepare(area)
    hit = shapely.intersects(shapely.box(*grown.T), area)
    return [tile for tile, wanted in zip(listed, hit, strict=True) if wanted]


def round_up(length: int, multiple: int = SIZE_MULTIPLE) -> int:
    """The next multiple of 32, or of another length."""
    return -(-length // multiple) * multiple


def even_length(length: int, largest: int, multiple: int = SIZE_MULTIPLE) -> int:
    """The shortest multiple of ``multiple`` that covers ``length`` in as many pieces as ``largest`` does."""
    count = math.ceil(length / largest)
    return round_up(math.ceil(length / count), multiple)
