"""Ground truth as pathologists draw it: outlines, boxes, ellipses, points; not all say which type it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.affinity import scale
from shapely.geometry import MultiPoint, Point, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.demo.canvas import Rng
from midog_qupath.demo.field import FieldObject
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.model import Roi, RoiKind

_KINDS = (RoiKind.POLYGON, RoiKind.RECTANGLE, RoiKind.ELLIPSE, RoiKind.POINTS)
_SHARES = (0.4, 0.25, 0.2, 0.15)
#: Share of mitoses drawn without a word on their type.
_UNTYPED = 0.12
#: Coordinates are multiples of this many pixels, which 32-bit numbers hold exactly.
_GRID = 0.25


@dataclass(frozen=True)
class Drawing:
    """An annotation to be: its class and shape."""

    class_name: str
    roi: Roi


def draw_each(rng: Rng, objects: Sequence[FieldObject], classes: ClassMap) -> list[Drawing]:
    """One annotation an object, of every shape."""
    return [Drawing(_class_name(rng, thing, classes), _drawn(rng, thing.polygon)) for thing in objects]


def draw_points(rng: Rng, objects: Sequence[FieldObject], classes: ClassMap) -> list[Drawing]:
    """As by QuPath's point tool: one annotation of all mitoses, one of all look-alikes."""
    groups = {
        classes.mitosis: [thing for thing in objects if thing.role != "non_mitosis"],
        classes.non_mitosis: [thing for thing in objects if thing.role == "non_mitosis"],
    }
    return [
        Drawing(name, Roi(RoiKind.POINTS, MultiPoint([_point(rng, thing.polygon) for thing in group])))
        for name, group in groups.items()
        if group
    ]


def region(rng: Rng, size_px: int, classes: ClassMap) -> Drawing:
    """An exhaustively labelled area: most of an image, as a rectangle."""
    left, top, right, bottom = (float(round(v)) for v in rng.uniform(0.04, 0.14, 4) * size_px)
    area = shapely.box(left, top, size_px - right, size_px - bottom)
    return Drawing(classes.region, Roi(RoiKind.RECTANGLE, area))


def _class_name(rng: Rng, thing: FieldObject, classes: ClassMap) -> str:
    if thing.role == "non_mitosis":
        return classes.non_mitosis
    if rng.random() < _UNTYPED:
        return classes.mitosis
    return classes.atypical if thing.role == "atypical" else classes.normal


def _drawn(rng: Rng, outline: Polygon) -> Roi:
    """A little too large and a little off, as hands are."""
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
    if kind is RoiKind.POINTS:
        return Roi(kind, MultiPoint([_point(rng, outline)]))
    if kind is RoiKind.POLYGON:
        return Roi(kind, _on_grid(outline.buffer(rng.uniform(0.5, 2.5), quad_segs=2).simplify(0.5)))
    x0, y0, x1, y1 = (
        np.rint((np.array(outline.bounds) + rng.uniform(1, 5, 4) * [-1, -1, 1, 1]) / _GRID) * _GRID
    )
    if kind is RoiKind.RECTANGLE:
        return Roi(kind, shapely.box(x0, y0, x1, y1))
    return Roi(kind, _ellipse(x0, y0, x1, y1))


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> BaseGeometry:
    disc = Point((x0 + x1) / 2, (y0 + y1) / 2).buffer(0.5, quad_segs=18)
    return scale(disc, x1 - x0, y1 - y0)


def _point(rng: Rng, outline: Polygon) -> tuple[float, float]:
    x0, y0, x1, y1 = outline.bounds
    x, y = np.rint((np.array([x0 + x1, y0 + y1]) / 2 + rng.uniform(-2, 2, 2)) / _GRID) * _GRID
    return float(x), float(y)


def _on_grid(outline: Polygon) -> Polygon:
    corners = np.rint(np.asarray(outline.exterior.coords) / _GRID) * _GRID
    snapped = Polygon(corners)
    return snapped if snapped.is_valid else Polygon(snapped.convex_hull.exterior)
