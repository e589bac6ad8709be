"""Areas as QuPath stores them: polygons on a grid of 0.01 px, valid and not degenerate."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import LineString, MultiPoint, Point, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.project.shapes import GRID, SMALLEST_AREA, settled, valid_near_grid

#: Corners of the polygon that stands for an ellipse.
_ELLIPSE_CORNERS = 72


def ellipse(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    """The ellipse in a box (slide pixels) as a polygon, the same in every store."""
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(angle)
    y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(angle)
    return Polygon(np.column_stack([x, y]))


def polygons_of(geometry: BaseGeometry) -> list[Polygon]:
    """Every polygon in a geometry of any kind, collections of collections included."""
    if isinstance(geometry, Polygon):
        return [geometry] if not geometry.is_empty else []
    parts = shapely.get_parts(geometry)
    if len(parts) == 1 and parts[0].geom_type == geometry.geom_type:
        return []  # a point or line is its own part
    return [polygon for part in parts for polygon in polygons_of(part)]


def polygonal(geometry: BaseGeometry) -> BaseGeometry | None:
    """What of a valid geometry is area, or None if nothing is."""
    parts = [part for part in polygons_of(geometry) if part.area > 0]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def on_grid(geometry: BaseGeometry) -> BaseGeometry | None:
    """A geometry (slide pixels) as every QuPath takes it, or None where nothing of it is left.

    Of areas the polygons, valid, without overlap, each of at least 1 px²; of points and single lines the
    rounded coordinates. Coordinates that are not finite, and several lines in one, no QuPath takes.
    """
    coordinates = shapely.get_coordinates(geometry)
    if not len(coordinates) or not np.isfinite(coordinates).all():
        return None
    if isinstance(geometry, (Point, MultiPoint, LineString)):
        return shapely.transform(shapely.force_2d(geometry), lambda places: places.round(2))
    (ready,) = settled([geometry])
    if ready is not None:
        return shapely.normalize(ready)
    # Each polygon by itself: where two parts overlap, the whole is their union.
    valid = [part for polygon in polygons_of(geometry) for part in polygons_of(valid_near_grid(polygon))]
    snapped = shapely.set_precision(shapely.union_all(valid), GRID)
    parts = [part for part in polygons_of(snapped) if part.area >= SMALLEST_AREA]
    if not parts:
        return None
    # One order of the corners for one shape: written again, a file stays the same.
    return shapely.normalize(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
