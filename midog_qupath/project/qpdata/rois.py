"""Regions of interest: QuPath's serialisation proxies to geometry in slide pixels."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from midog_qupath.project.geometry import ellipse
from midog_qupath.project.model import Plane, Roi, RoiKind
from midog_qupath.project.qpdata.document import unknown
from midog_qupath.project.qpdata.stream import Instance, Node
from midog_qupath.project.qpdata.values import fields, items, need, numbers

_PACKAGE = "qupath.lib.roi."
_KINDS = {
    "RectangleROI$SerializationProxy": RoiKind.RECTANGLE,
    "EllipseROI$SerializationProxy": RoiKind.ELLIPSE,
    "LineROI$SerializationProxy": RoiKind.LINE,
    "PolylineROI$SerializationProxy": RoiKind.POLYLINE,
    "PolygonROI$SerializationProxy": RoiKind.POLYGON,
    "PointsROI$SerializationProxy": RoiKind.POINTS,
    "GeometryROI$WKBSerializationProxy": RoiKind.GEOMETRY,
    # QuPath 0.2 and older: an outline a ring, those of holes among them.
    "AreaROI$SerializationProxy": RoiKind.GEOMETRY,
}
#: Geometries inside geometries that are followed (a collection of multipolygons of polygons is three).
_DEEPEST_WKB = 4
_WKB_POINT, _WKB_LINE, _WKB_POLYGON = 1, 2, 3
_WKB_COLLECTIONS = range(4, 8)


def roi(node: Node) -> Roi | None:
    """A region of interest, or None.

    Raises
    ------
    QpdataError
        For a kind that is not understood, by its class's name.
    """
    if node is None:
        return None
    name = node.desc.name if isinstance(node, Instance) else ""
    kind = _KINDS.get(name.removeprefix(_PACKAGE))
    if kind is None:
        raise unknown("unknown region of interest", node)
    found = fields(node)
    plane = Plane(*(need(node, found, axis, int) for axis in "czt"))
    try:
        return Roi(kind, _geometry(kind, node, found), plane)
    except (ValueError, ShapelyError, struct.error) as error:
        raise unknown(f"no geometry ({error})", node) from error


def _geometry(kind: RoiKind, node: Node, found: Mapping[str, Any]) -> BaseGeometry:
    if kind is RoiKind.GEOMETRY and "wkb" not in found:
        return _inside_rings(items(found.get("x")), items(found.get("y")))
    if kind is RoiKind.GEOMETRY:
        return _from_wkb(numbers(found.get("wkb")).astype(np.uint8).tobytes())
    if kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE, RoiKind.LINE):
        x0, y0, x1, y1 = (need(node, found, name, float) for name in ("x", "y", "x2", "y2"))
        _require_finite(np.array([x0, y0, x1, y1]))
        if kind is RoiKind.LINE:
            return shapely.LineString([(x0, y0), (x1, y1)])
        return shapely.box(x0, y0, x1, y1) if kind is RoiKind.RECTANGLE else ellipse(x0, y0, x1, y1)
    corners = np.column_stack([numbers(found.get("x")), numbers(found.get("y"))])
    return _through(kind, corners)


def _require_finite(values: NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        raise ValueError("coordinates that are not finite")


def _through(kind: RoiKind, corners: NDArray[np.float64]) -> BaseGeometry:
    _require_finite(corners)
    if kind is RoiKind.POINTS:
        return shapely.MultiPoint(corners)
    if kind is RoiKind.POLYLINE:
        # One point begins a line that was never drawn.
        return shapely.LineString(np.repeat(corners, 2, axis=0) if len(corners) == 1 else corners)
    if len(corners) < 3:
        # QuPath allows a polygon that was begun and never drawn.
        corners = np.resize(corners, (3, 2)) if len(corners) else np.zeros((3, 2))
    return shapely.Polygon(corners)


def _inside_rings(xs: Sequence[Node], ys: Sequence[Node]) -> BaseGeometry:
    """What an odd number of rings encloses: Java's areas wind holes against what they are in."""
    rings = [np.column_stack([numbers(x), numbers(y)]) for x, y in zip(xs, ys, strict=True)]
    _require_finite(np.concatenate([np.zeros((0, 2)), *rings]))
    enclosed = [shapely.make_valid(shapely.Polygon(ring)) for ring in rings if len(ring) >= 3]
    return reduce(shapely.symmetric_difference, enclosed, shapely.Polygon())


def _from_wkb(raw: bytes) -> BaseGeometry:
    # GEOS follows nested geometries on the C stack, which a damaged file could overflow.
    _wkb_end(raw, 0, 0)
    # Damaged bytes may be a signalling NaN, of which numpy would warn.
    with np.errstate(invalid="ignore"):
        return shapely.from_wkb(raw)


def _wkb_end(raw: bytes, at: int, depth: int) -> int:
    """Where a plane geometry of well-known binary (OGC 06-103r4, 8.2) that begins at ``at`` ends."""
    if depth > _DEEPEST_WKB:
        raise ValueError("geometries nested too deep")
    order = "<" if raw[at : at + 1] == b"\x01" else ">"
    (kind,) = struct.unpack_from(order + "I", raw, at + 1)
    if kind == _WKB_POINT:
        return at + 21
    (count,) = struct.unpack_from(order + "I", raw, at + 5)
    at += 9
    if kind == _WKB_LINE:
        return at + 16 * int(count)
    if kind != _WKB_POLYGON and kind not in _WKB_COLLECTIONS:
        raise ValueError(f"unknown kind of geometry {kind}")
    for _ in range(count):
        if kind == _WKB_POLYGON:
            at += 4 + 16 * int(struct.unpack_from(order + "I", raw, at)[0])
        else:
            at = _wkb_end(raw, at, depth + 1)
    return at
