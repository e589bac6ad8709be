"""Objects as they travel between :mod:`.paquo` and its worker process.

A row is a list: Java class, UUID, parent's UUID or null, name, class, class colour, own colour, locked,
measurements, metadata, ROI, nucleus ROI. A ROI is ``[Java class, [c, z, t], shape]``; a shape is a list
of points, an ellipse's bounding box ``[x, y, width, height]``, or well-known binary as hexadecimal text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import shapely
from shapely.geometry import LineString, MultiPoint, Point, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import StoreError
from midog_qupath.project.classes_file import java_int
from midog_qupath.project.geometry import ellipse
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Plane, Roi, RoiKind

_ARTICLE = {ObjectKind.ANNOTATION: "an", ObjectKind.DETECTION: "a"}


@dataclass(frozen=True)
class Row:
    """The places of a row that an edit is planned and checked by; ``values`` holds all of them."""

    values: Sequence[Any]

    @property
    def kind(self) -> str:
        """QuPath's Java class of the object, without its package."""
        return str(self.values[0])

    @property
    def id(self) -> str:
        """The object's UUID."""
        return str(self.values[1])

    @property
    def measurements(self) -> Mapping[str, Any]:
        """The object's measurements by name."""
        return dict(self.values[8])

    @property
    def parent(self) -> str | None:
        """The UUID of the object above, None directly under the root."""
        return None if self.values[2] is None else str(self.values[2])


def object_kind(java_class: str) -> ObjectKind:
    """What an object of a QuPath class is to us; StoreError for a class that is not known."""
    match java_class:
        case "PathAnnotationObject":
            return ObjectKind.ANNOTATION
        case "PathDetectionObject":
            return ObjectKind.DETECTION
        case "PathCellObject":
            return ObjectKind.CELL
        case "PathTileObject":
            return ObjectKind.TILE
        case "TMACoreObject":
            return ObjectKind.TMA_CORE
    raise StoreError(
        f"QuPath answered an object of the unknown kind {java_class}.",
        "Use --store native or --store sidecar for this project.",
    )


def decode(row: Row, with_ids: bool) -> PathObject:
    """The object of a row. ``with_ids`` is False where the file stores none and QuPath made them up."""
    (
        _,
        identity,
        parent,
        name,
        path_class,
        class_color,
        color,
        locked,
        measurements,
        metadata,
        roi,
        nucleus,
    ) = row.values
    return PathObject(
        id=UUID(identity) if with_ids else None,
        kind=object_kind(row.kind),
        roi=decode_roi(roi),
        path_class=None if path_class is None else PathClass(path_class, class_color),
        name=name,
        measurements={key: float(value) for key, value in measurements.items()},
        metadata=dict(metadata),
        locked=locked,
        color=color,
        parent_id=UUID(parent) if with_ids and parent is not None else None,
        nucleus=decode_roi(nucleus),
    )


def decode_roi(roi: Sequence[Any] | None) -> Roi | None:
    """The region of interest of a row, geometry in slide pixels."""
    if roi is None:
        return None
    java_class, (c, z, t), shape = roi
    kind, geometry = _shape(java_class, shape)
    return Roi(kind, geometry, Plane(c, z, t))


def _shape(java_class: str, shape: Any) -> tuple[RoiKind, BaseGeometry]:
    if java_class == "EllipseROI":
        x, y, width, height = shape
        return RoiKind.ELLIPSE, ellipse(x, y, x + width, y + height)
    if isinstance(shape, str):
        return RoiKind.GEOMETRY, shapely.from_wkb(shape)
    points = [(point["x"], point["y"]) for point in shape]
    match java_class:
        case "RectangleROI":
            return RoiKind.RECTANGLE, Polygon(points)
        case "PolygonROI":
            return RoiKind.POLYGON, Polygon(_three(points))
        case "PointsROI":
            return RoiKind.POINTS, MultiPoint(points)
        case "LineROI":
            return RoiKind.LINE, LineString(points)
    return RoiKind.POLYLINE, LineString(points)


def _three(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    # A polygon that was begun and never drawn has fewer corners than a ring needs.
    return points if len(points) >= 3 else ((points or [(0.0, 0.0)]) * 3)[:3]


def encode(new: PathObject, kind: ObjectKind) -> dict[str, Any]:
    """A new detection or annotation as the worker takes it; StoreError for what cannot be written."""
    if new.kind is not kind or new.id is None or new.roi is None:
        raise StoreError(
            f"Object {new.id} is not {_ARTICLE[kind]} {kind} with an id and a shape.",
            "Only detections and annotations can be written.",
        )
    if not all(math.isfinite(value) for value in new.measurements.values()):
        raise StoreError(f"Object {new.id} has a measurement that is not finite.", "Leave it out.")
    return {
        "id": str(new.id),
        "kind": kind.value,
        "class": new.class_name,
        "class_color": _color(new.path_class.color if new.path_class else None),
        "color": _color(new.color),
        "name": new.name,
        "locked": new.locked,
        "measurements": dict(new.measurements),
        "metadata": dict(new.metadata),
        "roi": _encode_roi(new.roi, new.id),
    }


def _color(color: int | None) -> int | None:
    return None if color is None else java_int(color)


def _encode_roi(roi: Roi, identity: UUID) -> list[Any]:
    geometry, plane = roi.geometry, [roi.plane.c, roi.plane.z, roi.plane.t]
    if geometry.is_empty or not geometry.is_valid or geometry.geom_type.endswith(("String", "Collection")):
        raise StoreError(
            f"The shape of object {identity} is not a valid area or point; QuPath would stumble on it.",
            "Make it a valid polygon first.",
        )
    if roi.kind in (RoiKind.RECTANGLE, RoiKind.ELLIPSE):
        x0, y0, x1, y1 = geometry.bounds
        name = "RectangleROI" if roi.kind is RoiKind.RECTANGLE else "EllipseROI"
        return [name, plane, [x0, y0, x1 - x0, y1 - y0]]
    match geometry:
        case Point() | MultiPoint():
            return ["PointsROI", plane, shapely.get_coordinates(geometry).T.tolist()]
        case Polygon() if not geometry.interiors:
            return ["PolygonROI", plane, shapely.get_coordinates(geometry)[:-1].T.tolist()]
    return ["GeometryROI", plane, shapely.to_wkb(geometry, hex=True, output_dimension=2)]
