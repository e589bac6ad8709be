"""Regions of interest: QuPath's serialisation proxies to geometry in slide pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from midog_qupath.project.model import Plane, Roi, RoiKind
from midog_qupath.project.qpdata.document import unknown
from midog_qupath.project.qpdata.stream import Instance, Node
from midog_qupath.project.qpdata.values import fields, numbers

_PACKAGE = "qupath.lib.roi."
_KINDS = {
    "RectangleROI$SerializationProxy": RoiKind.RECTANGLE,
    "EllipseROI$SerializationProxy": RoiKind.ELLIPSE,
    "LineROI$SerializationProxy": RoiKind.LINE,
    "PolylineROI$SerializationProxy": RoiKind.POLYLINE,
    "PolygonROI$SerializationProxy": RoiKind.POLYGON,
    "PointsROI$SerializationProxy": RoiKind.POINTS,
    "GeometryROI$WKBSerializationProxy": RoiKind.GEOMETRY,
}
#: Corners of the polygon that stands for an ellipse.
_ELLIPSE_CORNERS = 72


def roi(node: Node) -> Roi | None:
    """A region of interest, or None.

    Raises
    ------
    QpdataError
        For a kind that is not understood, by its class's name.
    """
    if node is None:
        return None
    name = node.desc.name if isinstance(node, Instance) else "something else"
    kind = _KINDS.get(name.removeprefix(_PACKAGE))
    if kind is None:
        raise unknown(f"{name} is an unknown region of interest")
    found = fields(node)
    try:
        geometry = _geometry(kind, found)
        plane = Plane(int(found["c"]), int(found["z"]), int(found["t"]))
    except (KeyError, ValueError, ShapelyError) as error:
        raise unknown(f"{name} has an unknown layout ({error})") from error
    return Roi(kind, geometry, plane)


def _geometry(kind: RoiKind, found: dict[str, Any]) -> BaseGeometry:
    if kind is RoiKind.GEOMETRY:
        return shapely.from_wkb(numbers(found["wkb"]).astype(np.uint8).tobytes())
    if kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE, RoiKind.LINE):
        x0, y0, x1, y1 = (float(found[name]) for name in ("x", "y", "x2", "y2"))
        if kind is RoiKind.LINE:
            return shapely.LineString([(x0, y0), (x1, y1)])
        return shapely.box(x0, y0, x1, y1) if kind is RoiKind.RECTANGLE else _ellipse(x0, y0, x1, y1)
    corners = np.column_stack([numbers(found["x"]), numbers(found["y"])])
    return _through(kind, corners)


def _through(kind: RoiKind, corners: NDArray[np.float64]) -> BaseGeometry:
    if kind is RoiKind.POINTS:
        return shapely.MultiPoint(corners)
    if kind is RoiKind.POLYLINE:
        return shapely.LineString(corners)
    if len(corners) < 3:
        # QuPath allows a polygon that was begun and never drawn.
        corners = np.resize(corners, (3, 2)) if len(corners) else np.zeros((3, 2))
    return shapely.Polygon(corners)


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> BaseGeometry:
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(angle)
    y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(angle)
    return shapely.Polygon(np.column_stack([x, y]))
