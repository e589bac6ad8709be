"""GeoJSON of other tools, or of another QuPath project: one file an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from midog_qupath.errors import LabelsError
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.geojson import read_features
from midog_qupath.project.geometry import ellipse, on_grid
from midog_qupath.project.labels.given import IGNORE, GivenLabels, ImageLabels, Words
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind
from midog_qupath.project.ours import RUN_MEASUREMENT

ENDINGS = (".geojson", ".geojson.gz", ".json", ".json.gz")


def read_outlines(path: Path, words: Words, name: str | None = None) -> GivenLabels:
    """The objects of a GeoJSON file as annotations, for the image ``name`` (default: the file's own name).

    Detections and cells of other tools become annotations too: whoever imports them says that they are
    labels. What this tool found itself is left out: a model does not learn from its own answers. Classes of
    unknown meaning stay as they are.

    Raises
    ------
    LabelsError, GeoJsonError
        If there is no such file, it is broken, or holds no object.
    """
    if not path.is_file():
        raise LabelsError(f"There is no file {path}.", "Give a GeoJSON, COCO or CSV file.")
    left_out: Counter[str] = Counter()
    objects = []
    for thing in read_features(path):
        reason = _reason_against(thing)
        class_name = _class_name(thing, words)
        if reason is None and class_name == IGNORE:
            reason = f"{thing.class_name} (ignored)"
        if reason is not None:
            left_out[reason] += 1
        else:
            objects.append(_as_label(thing, class_name))
    return GivenLabels(path.name, (ImageLabels(name or image_name(path), tuple(objects)),), dict(left_out))


def image_name(path: Path) -> str:
    """What a GeoJSON file is called after."""
    ending = max((end for end in ENDINGS if path.name.lower().endswith(end)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def _reason_against(thing: PathObject) -> str | None:
    if RUN_MEASUREMENT in thing.measurements:
        return "detection of midog-qupath"
    if thing.kind in (ObjectKind.TMA_CORE, ObjectKind.TILE):
        return f"{thing.kind.value}"
    if thing.roi is None or thing.roi.kind in (RoiKind.LINE, RoiKind.POLYLINE):
        return "line, or without a shape"
    return None if on_grid(thing.roi.geometry) is not None else "smaller than a pixel"


def _class_name(thing: PathObject, words: Words) -> str | None:
    if thing.class_name is None:
        return None
    return words.class_of(thing.class_name) or normalised(thing.class_name)


def _as_label(thing: PathObject, class_name: str | None) -> PathObject:
    color = thing.path_class.color if thing.path_class else None
    return replace(
        thing,
        kind=ObjectKind.ANNOTATION,
        roi=_storable(thing.roi),
        path_class=PathClass(class_name, color) if class_name else None,
        parent_id=None,
        nucleus=None,
    )


def _storable(roi: Roi | None) -> Roi | None:
    """A shape that every store takes as it is."""
    if roi is None:
        return None
    if roi.kind is RoiKind.ELLIPSE:
        return replace(roi, geometry=ellipse(*roi.geometry.bounds))
    shape = on_grid(roi.geometry)
    if shape is None:
        return None
    plain = shape.geom_type == "Polygon" and not shape.interiors
    kind = roi.kind if roi.kind is RoiKind.POINTS else RoiKind.POLYGON if plain else RoiKind.GEOMETRY
    return replace(roi, geometry=shape, kind=kind)


def merged(parts: Sequence[GivenLabels]) -> GivenLabels:
    """What several files say, together."""
    left_out: Counter[str] = Counter()
    for part in parts:
        left_out.update(part.left_out)
    source = parts[0].source if len(parts) == 1 else f"{len(parts)} files"
    return GivenLabels(source, tuple(image for part in parts for image in part.images), dict(left_out))
