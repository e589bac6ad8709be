"""QuPath's GeoJSON: read whatever is about, write what every QuPath from 0.4 on reads."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError
from shapely.geometry import LineString, MultiPoint, Point, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.collector import paused
from midog_qupath.errors import GeoJsonError
from midog_qupath.files import atomic_writer
from midog_qupath.project.classes_file import java_int, normalised
from midog_qupath.project.geojson_rules import validate_class, validate_feature, validate_id, validate_values
from midog_qupath.project.geometry import on_grid
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Plane, Roi, RoiKind
from midog_qupath.project.shapes import settled

_DEFAULT_COLOR = 0xFFD62728
_ROOTS = frozenset({"root", "PathRootObject"})
#: ``objectType`` and what earlier versions wrote there, or as the id (0.2).
_KINDS: Mapping[str, ObjectKind] = MappingProxyType(
    {kind.value: kind for kind in ObjectKind}
    | {
        "tma_core": ObjectKind.TMA_CORE,
        "PathAnnotationObject": ObjectKind.ANNOTATION,
        "PathDetectionObject": ObjectKind.DETECTION,
        "PathCellObject": ObjectKind.CELL,
        "PathTileObject": ObjectKind.TILE,
        "TMACoreObject": ObjectKind.TMA_CORE,
    }
)
_EXPORT_AGAIN = "Export it again from QuPath."
#: Objects whose outlines are looked at together.
_BATCH = 1000
_REPORT = "Nothing was written; please report this."
_FIRST_PLANE = Plane()
#: (N, 2) corners x, y of a polygon's ring.
_Ring: TypeAlias = NDArray[np.float64]


# ---- reading -------------------------------------------------------------------------------------


def read_features(path: Path) -> list[PathObject]:
    """All objects of a GeoJSON file, parents before children; the root is not one of them.

    FeatureCollections, single Features, bare lists and bare geometries; gzip; the forms of QuPath 0.2 to
    0.7 and of the tools around it. What QuPath itself would take for an annotation is one here too. An
    object without a valid UUID has none here.

    Raises
    ------
    GeoJsonError
        If the file is not JSON, not GeoJSON, or a feature is broken; names file and feature.
    """
    found: list[PathObject] = []
    for number, feature in enumerate(_features(_load(path), path)):
        found.extend(_read(feature, None, f"{path}, feature {number}"))
    return found


def read_about(path: Path) -> Mapping[str, Any]:
    """What a file says about the image it belongs to: its member ``midog_qupath``, empty without one.

    ``entry_id``, ``image``, ``width`` and ``height`` in pixels, ``mpp``. GeoJsonError if it is no JSON.
    """
    raw = _load(path)
    return _mapping(raw.get("midog_qupath")) if isinstance(raw, dict) else {}


def _load(path: Path) -> Any:
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        # Python's own parser: QuPath writes bare NaN, and one key twice (0.6), which stricter ones refuse.
        return json.loads(raw.decode("utf-8-sig"))
    except (OSError, EOFError, zlib.error) as error:
        raise GeoJsonError(f"{path} cannot be read: {error}.", "Check the file.") from error
    except (ValueError, RecursionError) as error:
        raise GeoJsonError(f"{path} is not JSON ({error}).", _EXPORT_AGAIN) from error


def _features(raw: Any, path: Path) -> list[Mapping[str, Any]]:
    if isinstance(raw, dict) and raw.get("type") == "FeatureCollection":
        raw = raw.get("features")
    rows = raw if isinstance(raw, list) else [raw]
    known = {"geometry", "coordinates", "geometries"}
    if not all(isinstance(row, dict) and known & row.keys() for row in rows):
        raise GeoJsonError(f"{path} is JSON but not GeoJSON.", "Export it from QuPath as GeoJSON.")
    return rows


def _read(feature: Any, parent: UUID | None, where: str) -> Iterator[PathObject]:
    if not isinstance(feature, dict):
        raise GeoJsonError(f"{where}: an object in it is no Feature.", _EXPORT_AGAIN)
    if "geometry" not in feature:
        feature = {"geometry": feature}
    properties = _mapping(feature.get("properties"))
    identity = _uuid(feature.get("id"))
    kind = _kind(feature.get("id"), properties)
    name = properties.get("name")
    if kind is not None:
        yield PathObject(
            id=identity,
            kind=kind,
            roi=_roi(feature["geometry"], where),
            path_class=_class(properties.get("classification"), where),
            name=str(name) if name is not None else None,
            measurements=_measurements(properties.get("measurements"), where),
            metadata=_metadata(properties.get("metadata")),
            locked=bool(properties.get("isLocked", False)),
            color=_packed(properties.get("color")),
            parent_id=parent,
            nucleus=_roi(feature.get("nucleusGeometry"), where),
        )
    children = properties.get("childObjects", properties.get("children"))
    for child in children if isinstance(children, list) else ():
        yield from _read(child, identity, where)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _kind(identity: Any, properties: Mapping[str, Any]) -> ObjectKind | None:
    """QuPath's rule: what it does not know is an annotation. None for the root."""
    keys = ("objectType", "object_type", "type")
    said = str(next((properties[key] for key in keys if key in properties), identity))
    return None if said in _ROOTS else _KINDS.get(said, ObjectKind.ANNOTATION)


def _class(value: Any, where: str) -> PathClass | None:
    if value is None:
        return None
    raw: Mapping[str, Any] = {"name": value} if isinstance(value, str) else value
    if not isinstance(raw, dict):
        raise GeoJsonError(f"{where}: its classification is no class.", _EXPORT_AGAIN)
    names = raw.get("names") or raw.get("name") or ""
    text = normalised(": ".join(str(name) for name in names) if isinstance(names, list) else str(names))
    return PathClass(text, _packed(raw.get("color", raw.get("colorRGB")))) if text else None


def _packed(color: Any) -> int | None:
    """A colour as Java packs it (ARGB, signed), from a list of levels or a packed one."""
    if isinstance(color, int):
        return java_int(color)
    if not isinstance(color, list) or not all(isinstance(level, int) and 0 <= level < 256 for level in color):
        return None
    if len(color) not in (3, 4):
        return None
    red, green, blue, alpha = (*color, 255)[:4]
    return java_int((alpha << 24) | (red << 16) | (green << 8) | blue)


def _measurements(value: Any, where: str) -> dict[str, float]:
    if isinstance(value, list):
        rows = [row for row in value if isinstance(row, dict) and "name" in row]
        value = {str(row["name"]): row.get("value") for row in rows}
    found = {}
    for name, number in _mapping(value).items():
        if number is None or isinstance(number, (bool, list, dict)):
            continue  # QuPath leaves these out with a warning
        try:
            found[name] = float(number)
        except (ValueError, OverflowError) as error:
            raise GeoJsonError(f"{where}: measurement {name!r} is no number.", "Correct it.") from error
    return found


def _metadata(value: Any) -> dict[str, str]:
    return {key: str(text) for key, text in _mapping(value).items() if not isinstance(text, (dict, list))}


def _roi(raw: Any, where: str) -> Roi | None:
    if raw is None:
        return None
    try:
        coordinates = {key: raw[key] for key in ("type", "coordinates", "geometries") if key in raw}
        geometry = shapely.force_2d(shapely.from_geojson(orjson.dumps(coordinates)))
        plane = _mapping(raw.get("plane"))
        at = Plane(int(plane.get("c", -1)), int(plane.get("z", 0)), int(plane.get("t", 0)))
    except (ShapelyError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise GeoJsonError(f"{where}: its geometry is broken ({error}).", _EXPORT_AGAIN) from error
    if geometry is None or geometry.is_empty:
        return None
    return Roi(_roi_kind(geometry, bool(raw.get("isEllipse"))), geometry, at)


def _roi_kind(geometry: BaseGeometry, ellipse: bool) -> RoiKind:
    """QuPath's GeoJSON does not tell a rectangle from a polygon."""
    if isinstance(geometry, (Point, MultiPoint)):
        return RoiKind.POINTS
    if isinstance(geometry, LineString):
        return RoiKind.LINE if len(geometry.coords) == 2 else RoiKind.POLYLINE
    if isinstance(geometry, Polygon) and not geometry.interiors:
        return RoiKind.ELLIPSE if ellipse else RoiKind.POLYGON
    return RoiKind.GEOMETRY


# ---- writing -------------------------------------------------------------------------------------


@paused()
def write_features(path: Path, objects: Iterable[PathObject], *, compress: bool = False) -> int:
    """Write objects as a FeatureCollection, whole or not at all; returns how many were written.

    Outlines are repaired and put on QuPath's grid. Objects of which nothing is left (below 1 px²) are left
    out: QuPath would refuse the whole file for one, or show nothing.

    Raises
    ------
    GeoJsonError
        If an object has no id, two have one, or a measurement is not finite.
    """
    seen: set[UUID] = set()
    classes: dict[PathClass, dict[str, Any]] = {}
    waiting = iter(objects)
    with atomic_writer(path) as raw:
        # No name: that of the file on its way would differ each time.
        stream = gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) if compress else raw
        stream.write(b'{"type":"FeatureCollection","features":[')
        while batch := list(islice(waiting, _BATCH)):
            rows = []
            for thing, ring in zip(batch, _rings(batch), strict=True):
                feature = to_feature(thing) if ring is None else _plain_feature(thing, ring, classes)
                if feature is None:
                    continue
                assert thing.id is not None
                if thing.id in seen:
                    raise GeoJsonError(f"Two objects have the id {thing.id}.", _REPORT)
                rows.append(orjson.dumps(feature, option=orjson.OPT_SERIALIZE_NUMPY))
                seen.add(thing.id)
            if rows:
                stream.write((b",\n" if len(seen) > len(rows) else b"\n") + b",\n".join(rows))
        stream.write(b"\n]}\n")
        if compress:
            stream.close()
    return len(seen)


def _rings(objects: Sequence[PathObject]) -> list[_Ring | None]:
    """The ring of each outline as QuPath takes it, where many can be made ready at once."""
    ready = settled([thing.roi.geometry if thing.roi is not None else None for thing in objects])
    # Points of the grid as doubles, 0.30000000000000004, print as 0.3.
    corners = shapely.get_coordinates(ready).round(2)
    ends = np.cumsum(shapely.get_num_coordinates(ready)).tolist()
    starts = [0, *ends[:-1]]
    return [
        None if outline is None else corners[start:end]
        for outline, start, end in zip(ready, starts, ends, strict=True)
    ]


def to_feature(thing: PathObject) -> dict[str, Any] | None:
    """One object as a valid Feature; None where nothing of its outline is left.

    Raises
    ------
    GeoJsonError
        If it has no id, or a measurement that is not finite.
    """
    geometry = _geometry(thing.roi)
    if geometry is None:
        return None
    classification = _classification(thing.path_class) if thing.path_class is not None else None
    feature = _feature(thing, str(thing.id), geometry, classification)
    validate_feature(feature)
    return feature


def _plain_feature(
    thing: PathObject, ring: _Ring, classes: dict[PathClass, dict[str, Any]]
) -> dict[str, Any]:
    """One object with an outline that is sound (:func:`settled`), as a valid Feature for orjson.

    ``classes``: what is known of the classes of a file; grows.
    """
    assert thing.roi is not None
    if thing.path_class is not None and thing.path_class not in classes:
        classes[thing.path_class] = _classification(thing.path_class)
        validate_class(classes[thing.path_class])
    classification = classes[thing.path_class] if thing.path_class is not None else None
    geometry = _placed({"type": "Polygon", "coordinates": [ring]}, thing.roi)
    # What is a UUID by its type needs no check, and orjson writes it by itself.
    if not isinstance(thing.id, UUID):
        validate_id(thing.id)
    feature = _feature(thing, thing.id, geometry, classification)
    validate_values(feature["properties"])
    return feature


def _feature(
    thing: PathObject,
    identity: str | UUID | None,
    geometry: dict[str, Any],
    classification: dict[str, Any] | None,
) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": thing.kind.value}
    if thing.name is not None:
        properties["name"] = thing.name
    if classification is not None:
        properties["classification"] = classification
    if thing.locked:
        properties["isLocked"] = True
    if thing.measurements:
        properties["measurements"] = {name: float(value) for name, value in thing.measurements.items()}
    if thing.metadata:
        properties["metadata"] = dict(thing.metadata)
    feature = {"type": "Feature", "id": identity, "geometry": geometry, "properties": properties}
    if thing.nucleus is not None and (nucleus := _geometry(thing.nucleus)):
        feature["nucleusGeometry"] = nucleus
    return feature


def _classification(path_class: PathClass) -> dict[str, Any]:
    color = path_class.color if path_class.color is not None else _DEFAULT_COLOR
    levels = [(color >> shift) & 255 for shift in (16, 8, 0)]
    return {"names": normalised(path_class.name).split(": "), "color": levels}


def _geometry(roi: Roi | None) -> dict[str, Any] | None:
    shape = on_grid(roi.geometry) if roi is not None else None
    if roi is None or shape is None:
        return None
    if isinstance(shape, Polygon):
        rings = [
            shapely.get_coordinates(ring).round(2).tolist() for ring in (shape.exterior, *shape.interiors)
        ]
        return _placed({"type": "Polygon", "coordinates": rings}, roi)
    raw: dict[str, Any] = orjson.loads(shapely.to_geojson(shape))
    raw["coordinates"] = _rounded(raw["coordinates"])
    return _placed(raw, roi)


def _placed(raw: dict[str, Any], roi: Roi) -> dict[str, Any]:
    if roi.kind is RoiKind.ELLIPSE:
        raw["isEllipse"] = True
    if roi.plane != _FIRST_PLANE:
        raw["plane"] = {"c": roi.plane.c, "z": roi.plane.z, "t": roi.plane.t}
    return raw


def _rounded(value: Any) -> Any:
    return [_rounded(inner) for inner in value] if isinstance(value, list) else round(value, 2)
