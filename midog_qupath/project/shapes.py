"""Shapes before and after QuPath stored them: 32-bit coordinates, 0.01 px steps, rings turned around."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.project.model import PathObject
from midog_qupath.units import SlidePixels

Position = tuple[float, float]

#: How far (slide pixels) QuPath 0.5 to 0.7 move a point of a shape by storing it.
STORING_MOVES = 0.02
#: The grid (slide pixels) to which QuPath 0.6 and later snap coordinates.
GRID = 0.01
#: QuPath shows smaller outlines (square slide pixels) as nothing.
SMALLEST_AREA = 1.0


def centre(item: PathObject) -> Position:
    """Centre of the bounding box of an object that has a region of interest, in slide pixels."""
    if item.roi is None:
        raise ValueError(f"object {item.id} has no region of interest")
    x0, y0, x1, y1 = item.roi.geometry.bounds
    return (x0 + x1) / 2, (y0 + y1) / 2


def centres(items: Iterable[PathObject]) -> list[Position]:
    """Centres of those objects that have a region of interest, in slide pixels."""
    return [centre(item) for item in items if item.roi and not item.roi.geometry.is_empty]


def near(positions: Sequence[Position], others: Sequence[Position], radius: SlidePixels) -> NDArray[np.bool_]:
    """Which of ``positions`` lie within ``radius`` of one of ``others`` (all slide pixels), in order."""
    if not positions or not others:
        return np.zeros(len(positions), dtype=np.bool_)
    # Imported here: it takes as long as all else that a command reads a project with.
    from scipy.spatial import KDTree

    distances, _ = KDTree(np.array(others)).query(np.array(positions))
    return np.asarray(distances <= radius)


def same_shape(one: BaseGeometry, other: BaseGeometry) -> bool:
    """Whether two shapes (slide pixels) differ by no more than storing them can do.

    The Hausdorff distance of their outlines: where a ring begins and which way it runs do not matter.
    """
    if one.is_empty or other.is_empty:
        return bool(one.is_empty and other.is_empty)
    if not same_bounds(one.bounds, other.bounds):
        return False
    return bool(_outline(one).hausdorff_distance(_outline(other)) <= _tolerance(one.bounds))


def same_shapes(ones: Sequence[BaseGeometry], others: Sequence[BaseGeometry]) -> NDArray[np.bool_]:
    """Which shapes differ from their partners by no more than storing them can do, as :func:`same_shape`."""
    if not ones:
        return np.zeros(0, dtype=np.bool_)
    one, other = (np.array(shapes, dtype=object) for shapes in (ones, others))
    empty, also = shapely.is_empty(one), shapely.is_empty(other)
    bounds, found = shapely.bounds(one), shapely.bounds(other)
    with np.errstate(invalid="ignore"):
        largest = np.abs(bounds).max(axis=1).astype(np.float32)
        tolerance = np.maximum(STORING_MOVES, 2 * np.spacing(largest).astype(np.float64))
        # NaN, of what is empty or not finite, is never near.
        near_by = np.abs(bounds - found).max(axis=1) <= tolerance
        # Corner by corner is quick, and what nobody turned around stays so.
        doubtful = near_by & ~_same_corners(one, other, tolerance)
        lines = [_outlines(shapes[doubtful]) for shapes in (one, other)]
        near_by[doubtful] = shapely.hausdorff_distance(*lines) <= tolerance[doubtful]
    return np.asarray((empty & also) | (near_by & ~empty & ~also))


def _same_corners(
    one: NDArray[np.object_], other: NDArray[np.object_], tolerance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which have the same kind and their corners in the same order; False says nothing."""
    counts = shapely.get_num_coordinates(one)
    alike = (counts == shapely.get_num_coordinates(other)) & (counts > 0)
    alike &= (shapely.get_type_id(one) == shapely.get_type_id(other)) & (
        shapely.get_num_interior_rings(one) == 0
    )
    alike &= shapely.get_num_interior_rings(other) == 0
    corners, whose = shapely.get_coordinates(one[alike], return_index=True)
    far = np.abs(corners - shapely.get_coordinates(other[alike])).max(axis=1, initial=0)
    same = np.zeros(len(one), dtype=np.bool_)
    worst = np.zeros(int(alike.sum()))
    np.maximum.at(worst, whose, far)
    same[alike] = worst <= tolerance[alike]
    return same


def _outlines(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    areas = np.isin(
        shapely.get_type_id(shapes), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    )
    found: NDArray[np.object_] = np.where(areas, shapely.boundary(shapes), shapes)
    return found


def same_bounds(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two bounding boxes (x0, y0, x1, y1, slide pixels) differ by no more than storing can do."""
    if not np.all(np.isfinite([*one, *other])):
        return False
    return bool(np.abs(np.subtract(one, other)).max() <= _tolerance(one))


def valid_near_grid(polygon: Polygon) -> BaseGeometry:
    """A polygon made valid, its corners on the grid: those that all but coincide break the later snapping."""
    return shapely.make_valid(shapely.set_precision(polygon, GRID, mode="pointwise"))


def settled(shapes: Sequence[BaseGeometry | None]) -> list[Polygon | None]:
    """Polygons without holes, their corners put on the grid; None where more than that is to be done.

    Many at once, because each by itself would take most of the time that writing them takes.
    """
    given = np.array([*shapes, None], dtype=object)[:-1]
    found = np.full(len(given), None, dtype=object)
    plain = (shapely.get_type_id(given) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(given)
    plain &= shapely.get_num_interior_rings(given) == 0
    chosen = np.flatnonzero(plain)
    drawn, whose = shapely.get_coordinates(given[chosen], return_index=True)
    with np.errstate(invalid="ignore"):
        corners = drawn.round(2)
    bad = ~np.isfinite(corners).all(axis=1)
    bad[1:] |= (corners[1:] == corners[:-1]).all(axis=1) & (whose[1:] == whose[:-1])
    good = ~np.isin(np.arange(len(chosen)), whose[bad])
    if good.all() and np.array_equal(corners, drawn) and not shapely.has_z(given[chosen]).any():
        polygons = given[chosen]  # settled before
    else:
        kept = good[whose]
        numbers = np.cumsum(good) - 1
        polygons = shapely.polygons(shapely.linearrings(corners[kept], indices=numbers[whose[kept]]))
    fine = (shapely.area(polygons) >= SMALLEST_AREA) & shapely.is_valid(polygons)
    found[chosen[good][fine]] = polygons[fine]
    return list(found)


def storable(outline: Polygon) -> Polygon | None:
    """An outline as every QuPath takes it: one valid ring on the 0.01 px grid, or None if nothing is left.

    QuPath 0.6 refuses a whole file for one ring that crosses itself.
    """
    (ready,) = settled([outline])
    if ready is not None:
        return ready
    if not np.all(np.isfinite(shapely.get_coordinates(outline))):
        return None
    snapped = shapely.set_precision(valid_near_grid(Polygon(outline.exterior)), GRID)
    parts = [part for part in shapely.get_parts(snapped) if isinstance(part, Polygon)]
    largest = max(parts, key=lambda part: part.area, default=None)
    if largest is None or largest.area < SMALLEST_AREA:
        return None
    return Polygon(largest.exterior)


def _outline(shape: BaseGeometry) -> BaseGeometry:
    return shape.boundary if shape.geom_type in ("Polygon", "MultiPolygon") else shape


def _tolerance(bounds: Sequence[float]) -> float:
    # Beyond 131,072 px the steps of 32-bit numbers are coarser than QuPath's own grid.
    step = float(np.spacing(np.float32(np.abs(bounds).max())))
    return max(STORING_MOVES, 2 * step)
