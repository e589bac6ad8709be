"""QuPath's GeoJSON: read whatever is about, write what every QuPath from 0.4 on reads.

The contract was found by running QuPath 0.5.1, 0.6.0 and 0.7.0 on each case; :func:`validate_feature` is
that contract in Python, and every feature passes it before it is written.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import LineString, MultiLineString, MultiPoint, MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import GeoJsonError
from midog_qupath.files import atomic_writer
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Plane, Roi, RoiKind

_DEFAULT_COLOR = 0xFFD62728
_MIN_AREA_PX = 1.0
_ROOT = "root"


# ---- reading -------------------------------------------------------------------------------------


def read_features(path: Path) -> list[PathObject]:
    """All objects of a GeoJSON file, parents before children.

    FeatureCollections, single Features, bare lists and bare geometries; gzip; the forms of QuPath 0.2 to
    0.7 and of the tools around it. What QuPath itself would take for an annotation is one here too.

    Raises
    ------
    GeoJsonError
        If the file is not JSON, not GeoJSON, or a geometry is broken; names file and feature.
    """
    found: list[PathObject] = []
    for number, feature in enumerate(_features(_load(path), path)):
        found.extend(_read(feature, None, f"{path}, feature {number}"))
    return found


def _load(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        # Python's own parser: QuPath writes bare NaN, and one key twice (0.6), which stricter ones refuse.
        return json.loads(raw.decode("utf-8-sig"))
    except (OSError, EOFError) as error:
        raise GeoJsonError(f"{path} cannot be read: {error}.", "Check the file.") from error
    except (ValueError, RecursionError) as error:
        raise GeoJsonError(f"{path} is not JSON ({error}).", "Export it again from QuPath.") from error


def _features(raw: Any, path: Path) -> list[Mapping[str, Any]]:
    if isinstance(raw, Mapping) and raw.get("type") == "FeatureCollection":
        raw = raw.get("features")
    rows = raw if isinstance(raw, list) else [raw]
    if not all(isinstance(row, Mapping) and isinstance(row.get("type"), str) for row in rows):
        raise GeoJsonError(f"{path} is JSON but not GeoJSON.", "Export it from QuPath as GeoJSON.")
    return rows


def _read(feature: Mapping[str, Any], parent: UUID | None, where: str) -> Iterator[PathObject]:
    if feature["type"] != "Feature":
        feature = {"type": "Feature", "geometry": feature, "properties": {}}
    properties = feature.get("properties") or {}
    identity = _uuid(feature.get("id"))
    kind = _kind(properties)
    if kind is not None:
        yield PathObject(
            id=identity,
            kind=kind,
            roi=_roi(feature.get("geometry"), where),
            path_class=_class(properties.get("classification"), where),
            name=properties.get("name"),
            measurements=_measurements(properties.get("measurements"), where),
            metadata={str(k): str(v) for k, v in (properties.get("metadata") or {}).items()},
            locked=bool(properties.get("isLocked", properties.get("is_locked", False))),
            color=_packed(properties.get("color")),
            parent_id=parent,
            nucleus=_roi(nucleus, where) if (nucleus := feature.get("nucleusGeometry")) else None,
        )
    for child in feature.get("childObjects") or properties.get("childObjects") or []:
        yield from _read(child, identity, where)


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _kind(properties: Mapping[str, Any]) -> ObjectKind | None:
    """QuPath's rule: anything unknown is an annotation. None for the root."""
    names = ("objectType", "object_type", "type")
    value = next((properties[name] for name in names if properties.get(name)), "annotation")
    wanted = str(value).lower().replace("_", "")
    if wanted == _ROOT:
        return None
    return next((kind for kind in ObjectKind if kind.value.lower() == wanted), ObjectKind.ANNOTATION)


def _class(value: Any, where: str) -> PathClass | None:
    if value is None:
        return None
    if isinstance(value, str):
        return PathClass(value) if value else None
    if not isinstance(value, Mapping):
        raise GeoJsonError(f"{where}: its classification is no class.", "Export it again from QuPath.")
    names = value.get("names") or value.get("name")
    text = ": ".join(str(n) for n in names) if isinstance(names, list) else str(names or "")
    return PathClass(text, _packed(value.get("color", value.get("colorRGB")))) if text else None


def _packed(color: Any) -> int | None:
    if isinstance(color, int):
        return color
    if isinstance(color, list) and len(color) in (3, 4) and all(isinstance(c, int) for c in color):
        red, green, blue = (int(c) for c in color[:3])
        alpha = int(color[3]) if len(color) == 4 else 255
        return (alpha << 24) | (red << 16) | (green << 8) | blue
    return None


def _measurements(value: Any, where: str) -> dict[str, float]:
    if isinstance(value, list):
        value = {row.get("name"): row.get("value") for row in value if isinstance(row, Mapping)}
    found = {}
    for name, number in (value or {}).items():
        if number is None or isinstance(number, bool):
            continue  # QuPath skips these with a warning
        try:
            found[str(name)] = float(number)
        except (TypeError, ValueError) as error:
            raise GeoJsonError(f"{where}: measurement {name!r} is no number.", "Correct it.") from error
    return found


def _roi(raw: Any, where: str) -> Roi | None:
    if raw is None:
        return None
    try:
        geometry = shapely.from_geojson(orjson.dumps({k: v for k, v in raw.items() if k != "plane"}))
        plane = raw.get("plane") or {}
        where_z = Plane(int(plane.get("c", -1)), int(plane.get("z", 0)), int(plane.get("t", 0)))
    except (ShapelyError, AttributeError, TypeError, ValueError) as error:
        raise GeoJsonError(f"{where}: its geometry is broken.", "Export it again from QuPath.") from error
    if geometry is None or geometry.is_empty:
        return None
    return Roi(_roi_kind(geometry, bool(raw.get("isEllipse"))), geometry, where_z)


def _roi_kind(geometry: BaseGeometry, ellipse: bool) -> RoiKind:
    if isinstance(geometry, (Point, MultiPoint)):
        return RoiKind.POINTS
    if isinstance(geometry, LineString):
        return RoiKind.LINE if len(geometry.coords) == 2 else RoiKind.POLYLINE
    if isinstance(geometry, Polygon) and not geometry.interiors:
        return RoiKind.ELLIPSE if ellipse else RoiKind.POLYGON
    return RoiKind.GEOMETRY


# ---- writing -------------------------------------------------------------------------------------


def write_features(path: Path, objects: Iterable[PathObject], *, compress: bool = False) -> int:
    """Write objects as a FeatureCollection, whole or not at all; returns how many were written.

    Objects whose outline is degenerate (below 1 px²) are left out: QuPath refuses a whole file for one.

    Raises
    ------
    GeoJsonError
        If an object cannot be written so that QuPath reads it (two with one id, a value that is no number).
    """
    seen: set[UUID] = set()
    count = 0
    with atomic_writer(path) as raw:
        stream = gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) if compress else raw
        stream.write(b'{"type":"FeatureCollection","features":[')
        for thing in objects:
            feature = to_feature(thing)
            if feature is None:
                continue
            if thing.id in seen or thing.id is None:
                raise GeoJsonError(
                    f"Two objects have the id {thing.id}.", "This is a mistake of this program."
                )
            seen.add(thing.id)
            stream.write((b",\n" if count else b"\n") + orjson.dumps(feature))
            count += 1
        stream.write(b"\n]}\n")
        if compress:
            stream.close()
    return count


def to_feature(thing: PathObject) -> dict[str, Any] | None:
    """One object as a valid Feature; None where nothing of its outline is left."""
    geometry = _geometry(thing.roi)
    if geometry is None:
        return None
    properties: dict[str, Any] = {"objectType": thing.kind.value}
    if thing.name is not None:
        properties["name"] = thing.name
    if thing.path_class is not None:
        properties["classification"] = _classification(thing.path_class)
    if thing.locked:
        properties["isLocked"] = True
    properties["measurements"] = dict(thing.measurements)
    if thing.metadata:
        properties["metadata"] = dict(thing.metadata)
    feature = {"type": "Feature", "id": str(thing.id), "geometry": geometry, "properties": properties}
    validate_feature(feature)
    return feature


def _classification(path_class: PathClass) -> dict[str, Any]:
    color = path_class.color if path_class.color is not None else _DEFAULT_COLOR
    rgb = [(color >> shift) & 255 for shift in (16, 8, 0)]
    return {"names": path_class.name.split(": "), "color": rgb}


def _geometry(roi: Roi | None) -> dict[str, Any] | None:
    if roi is None:
        return None
    shape = _on_grid(roi.geometry)
    if shape is None:
        return None
    raw: dict[str, Any] = json.loads(shapely.to_geojson(shape))
    _round(raw)
    if roi.kind is RoiKind.ELLIPSE:
        raw["isEllipse"] = True
    if roi.plane != Plane():
        raw["plane"] = {"c": roi.plane.c, "z": roi.plane.z, "t": roi.plane.t}
    return raw


def _on_grid(geometry: BaseGeometry) -> BaseGeometry | None:
    """The geometry on QuPath's grid of 0.01 px: valid, polygons only where it is an area, no part < 1 px²."""
    if isinstance(geometry, (Point, MultiPoint, LineString, MultiLineString)):
        points = shapely.get_coordinates(geometry)
        return geometry if len(points) and np.isfinite(points).all() else None
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        return None
    snapped = shapely.set_precision(shapely.make_valid(geometry), 0.01)
    parts = [p for p in shapely.get_parts(snapped) if isinstance(p, Polygon) and p.area >= _MIN_AREA_PX]
    if isinstance(snapped, Polygon):
        parts = [snapped] if snapped.area >= _MIN_AREA_PX else []
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _round(raw: dict[str, Any]) -> None:
    def tidy(value: Any) -> Any:
        return [tidy(v) for v in value] if isinstance(value, list) else round(value, 2)

    raw["coordinates"] = tidy(raw["coordinates"])


def validate_feature(feature: Mapping[str, Any]) -> None:
    """Check a Feature against what QuPath 0.5 to 0.7 read without loss.

    Raises
    ------
    GeoJsonError
        Naming the rule that is broken.
    """
    properties = feature.get("properties")
    if not isinstance(properties, Mapping):
        raise _broken("properties are missing")
    if _uuid(feature.get("id")) is None:
        raise _broken("the id is no UUID")
    if properties.get("objectType") not in set(ObjectKind):
        raise _broken("objectType must stand inside properties")
    if "objectType" in feature or "color" in properties:
        raise _broken("objectType outside properties, or a colour of its own")
    _validate_class(properties.get("classification"))
    for name, value in (properties.get("measurements") or {}).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _broken(f"measurement {name!r} is no finite number")
    _validate_geometry(feature.get("geometry"))


def _validate_class(classification: Any) -> None:
    if classification is None:
        return
    color = classification.get("color") if isinstance(classification, Mapping) else None
    if not isinstance(color, Sequence) or len(color) not in (3, 4):
        raise _broken("a class without a colour makes QuPath refuse the whole file")
    if not classification.get("names") and not classification.get("name"):
        raise _broken("a class without a name")


def _validate_geometry(raw: Any) -> None:
    allowed = ("Point", "MultiPoint", "LineString", "Polygon", "MultiPolygon")
    if not isinstance(raw, Mapping) or raw.get("type") not in allowed:
        raise _broken("a geometry that QuPath 0.6 refuses")
    try:
        shape = shapely.from_geojson(orjson.dumps({"type": raw["type"], "coordinates": raw["coordinates"]}))
    except (ShapelyError, KeyError) as error:
        raise _broken("broken coordinates or an open ring") from error
    if shape.is_empty or not np.isfinite(shapely.get_coordinates(shape)).all():
        raise _broken("an empty geometry or one that is not finite")
    if isinstance(shape, (Polygon, MultiPolygon)) and (not shape.is_valid or shape.area < _MIN_AREA_PX / 2):
        raise _broken("an invalid or degenerate polygon")
    if isinstance(shape, MultiPolygon) and len(shape.geoms) == 1:
        raise _broken("a MultiPolygon of one part crashes QuPath 0.5")


def _broken(rule: str) -> GeoJsonError:
    return GeoJsonError(
        f"A feature would not be read by QuPath: {rule}.", "This is a mistake of this program."
    )
