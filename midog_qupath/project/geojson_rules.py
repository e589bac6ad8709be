"""What QuPath 0.5 to 0.7 read without loss: a Python model, found by running each of them on each case.

One bad feature makes QuPath refuse the whole file, so every feature passes this before it is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import GeoJsonError
from midog_qupath.project.model import ObjectKind

_GEOMETRIES = ("Point", "MultiPoint", "LineString", "Polygon", "MultiPolygon")
#: Below this (square pixels) a shape on the 0.01 px grid is a zero-area object in QuPath.
_DEGENERATE = 0.5
_KINDS = frozenset(ObjectKind)
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def validate_feature(feature: Mapping[str, Any]) -> None:
    """Check a GeoJSON Feature of a QuPath object.

    Raises
    ------
    GeoJsonError
        Naming the rule that is broken.
    """
    _validate_attributes(feature)
    validate_class(feature["properties"].get("classification"))
    _validate_geometry(feature.get("geometry"))


def _validate_attributes(feature: Mapping[str, Any]) -> None:
    """All of :func:`validate_feature` but geometry and class.

    Raises
    ------
    GeoJsonError
        Naming the rule that is broken.
    """
    properties = feature.get("properties")
    _require(feature.get("type") == "Feature", "it is no Feature")
    validate_id(feature.get("id"))
    _require(isinstance(properties, Mapping), "its properties are missing, QuPath refuses the file")
    assert isinstance(properties, Mapping)
    _require(
        properties.get("objectType") in _KINDS,
        "objectType is not inside properties, QuPath would make it an annotation",
    )
    _require("color" not in properties, "a colour of its own would hide that of its class")
    validate_values(properties)


def validate_id(value: Any) -> None:
    """Check the ``id`` of a Feature.

    Raises
    ------
    GeoJsonError
        If it is no UUID.
    """
    known = isinstance(value, str) and _UUID.fullmatch(value) is not None
    _require(known, "its id is no UUID, QuPath would give it another")


def validate_values(properties: Mapping[str, Any]) -> None:
    """Check the measurements and metadata of a Feature's properties.

    Raises
    ------
    GeoJsonError
        Naming the rule that is broken.
    """
    for name, value in properties.get("measurements", {}).items():
        # A truth value is a number to Python, but not to QuPath.
        if type(value) not in (int, float) or not math.isfinite(value):
            raise _broken(f"measurement {name!r} is no finite number")
    for key, value in properties.get("metadata", {}).items():
        if not isinstance(value, str):
            raise _broken(f"metadata {key!r} is no text")


def validate_class(classification: Any) -> None:
    """Check the ``classification`` of a Feature; None is sound.

    Raises
    ------
    GeoJsonError
        Naming the rule that is broken.
    """
    if classification is None:
        return
    _require(isinstance(classification, Mapping), "its class is no object with names and colour")
    color = classification.get("color")
    levels = isinstance(color, list) and len(color) in (3, 4) and all(level in range(256) for level in color)
    _require(levels, "its class has no colour, QuPath refuses the file")
    names = classification.get("names")
    named = isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)
    _require(bool(named), "its class has no name")


def _validate_geometry(raw: Any) -> None:
    known = isinstance(raw, Mapping) and raw.get("type") in _GEOMETRIES
    _require(known, "its geometry is missing or of a kind that QuPath 0.6 refuses")
    try:
        shape = _shape(raw["type"], raw["coordinates"])
    except (ShapelyError, KeyError, TypeError, ValueError) as error:
        raise _broken("its coordinates are broken or a ring is open, QuPath refuses the file") from error
    coordinates = shapely.get_coordinates(shape)
    _require(len(coordinates) > 0 and bool(np.isfinite(coordinates).all()), "its geometry is empty")
    if isinstance(shape, (Polygon, MultiPolygon)):
        _require(shape.is_valid, "its outline crosses itself, QuPath 0.6 refuses the file")
        _require(shape.area >= _DEGENERATE, "its outline is degenerate")
    one_part = isinstance(shape, MultiPolygon) and len(shape.geoms) == 1
    _require(not one_part, "a MultiPolygon of one part crashes QuPath 0.5")


def _shape(kind: str, coordinates: Any) -> BaseGeometry:
    if kind == "Polygon" and len(coordinates) == 1:
        ring = np.asarray(coordinates[0], dtype=np.float64)
        # Closed by shapely itself, an open ring would pass.
        _require(
            len(ring) > 3 and bool((ring[0] == ring[-1]).all()), "a ring is open, QuPath refuses the file"
        )
        polygon: BaseGeometry = shapely.polygons(ring)
        return polygon
    return shapely.from_geojson(orjson.dumps({"type": kind, "coordinates": coordinates}))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _broken(otherwise)


def _broken(rule: str) -> GeoJsonError:
    return GeoJsonError(
        f"An object cannot be written for QuPath: {rule}.", "Nothing was written; please report this."
    )
