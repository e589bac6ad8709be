"""How much of each cell of a grid an area covers, exactly."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from midog_qupath.project.geometry import polygons_of

Floats = NDArray[np.float64]


def rasterise(area: BaseGeometry, x: float, y: float, side: float, shape: tuple[int, int]) -> Floats:
    """Share (0..1) of each cell that a valid area covers.

    Every edge adds the ground to its right, signed by whether it runs up or down: what is inside remains.

    Parameters
    ----------
    area
        Polygons that lie inside the grid.
    x, y
        Upper left corner of the grid.
    side
        Of a cell, in the unit of the area.
    shape
        Rows and columns.
    """
    right = np.zeros((shape[0], shape[1] + 1))
    edges = (_edges(area) - np.array([x, y, x, y])) / side
    x0, y0, x1, y1 = _cut_at_cells(edges).T
    row = np.clip(np.floor((y0 + y1) / 2), 0, shape[0] - 1).astype(np.int64)
    column = np.clip(np.floor((x0 + x1) / 2), 0, shape[1] - 1).astype(np.int64)
    rise, inside = y1 - y0, (x0 + x1) / 2 - column
    np.add.at(right, (row, column), rise * (1 - inside))
    np.add.at(right, (row, column + 1), rise * inside)
    covered = np.cumsum(right, axis=1)[:, :-1]
    # Outer rings run against the clock in y upwards, with it in y downwards.
    return np.clip(-covered, 0.0, 1.0)


def _edges(area: BaseGeometry) -> Floats:
    rings = []
    for polygon in polygons_of(area):
        turned = orient(polygon)
        for ring in (turned.exterior, *turned.interiors):
            corners = shapely.get_coordinates(ring)
            rings.append(np.hstack([corners[:-1], corners[1:]]))
    return np.concatenate(rings) if rings else np.empty((0, 4))


def _cut_at_cells(edges: Floats) -> Floats:
    """(E, 4) edges in cells as (K, 4) pieces that lie in one cell each."""
    number = np.arange(len(edges))
    owners, places = [number, number], [np.zeros(len(edges)), np.ones(len(edges))]
    for axis in (0, 1):
        a, b = edges[:, axis], edges[:, axis + 2]
        first = np.ceil(np.minimum(a, b))
        lines = np.maximum(np.floor(np.maximum(a, b)) - first + 1, 0).astype(np.int64)
        lines[a == b] = 0
        owner = np.repeat(number, lines)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(lines) - lines, lines)
        owners.append(owner)
        places.append((first[owner] + step - a[owner]) / (b - a)[owner])
    owner, place = np.concatenate(owners), np.clip(np.concatenate(places), 0, 1)
    order = np.lexsort((place, owner))
    owner, place = owner[order], place[order]
    same = owner[1:] == owner[:-1]
    edge, start, end = edges[owner[1:][same]], place[:-1][same, None], place[1:][same, None]
    along = edge[:, 2:] - edge[:, :2]
    return np.hstack([edge[:, :2] + start * along, edge[:, :2] + end * along])
