"""``summary.json`` beside a data file: counts by type and class, in QuPath's own form.

Its ``nObjects`` counts the root. It is a free check of a reader: a file that holds fewer objects than its
summary says has lost some.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from midog_qupath.project.model import ObjectKind, PathObject

_TYPES = MappingProxyType(
    {
        ObjectKind.ANNOTATION: "Annotations",
        ObjectKind.DETECTION: "Detections",
        ObjectKind.CELL: "Cells",
        ObjectKind.TILE: "Tiles",
        ObjectKind.TMA_CORE: "TMA cores",
    }
)
#: Kinds that QuPath counts as detections.
_DETECTIONS = (ObjectKind.DETECTION, ObjectKind.CELL, ObjectKind.TILE)


def counts(objects: Sequence[PathObject]) -> dict[str, Any]:
    """The ``hierarchy`` part of a summary."""
    kinds = Counter(_TYPES[thing.kind] for thing in objects)
    return {
        "nObjects": len(objects) + 1,
        "objectTypeCounts": {"Root objects": 1, **kinds},
        "annotationClassificationCounts": _classes(objects, (ObjectKind.ANNOTATION,)),
        "detectionClassificationCounts": _classes(objects, _DETECTIONS),
    }


def _classes(objects: Sequence[PathObject], kinds: tuple[ObjectKind, ...]) -> dict[str, int]:
    return dict(Counter(thing.class_name or "Unclassified" for thing in objects if thing.kind in kinds))


def disagreement(summary: Mapping[str, Any], objects: Sequence[PathObject]) -> str | None:
    """In words, the first count in which file and summary differ; None where they agree."""
    wanted, found = summary.get("hierarchy"), counts(objects)
    if not isinstance(wanted, Mapping):
        return None
    for name, here in found.items():
        there = wanted.get(name)
        if there is not None and there != here:
            return f"{name} is {here} in data.qpdata and {there} in summary.json"
    return None


def updated(summary: Mapping[str, Any], objects: Sequence[PathObject]) -> dict[str, Any]:
    """The summary after a change: new counts and time, all else as it was."""
    old = summary.get("hierarchy")
    hierarchy = {**(old if isinstance(old, Mapping) else {}), **counts(objects)}
    return {**summary, "timestamp": int(time.time() * 1000), "hierarchy": hierarchy}


def new_summary(width: int, height: int, objects: Sequence[PathObject]) -> dict[str, Any]:
    """The summary of a brightfield H&E image."""
    server = {"width": width, "height": height, "sizeC": 3, "sizeZ": 1, "sizeT": 1}
    return updated({"timestamp": 0, "imageType": "BRIGHTFIELD_H_E", "server": server}, objects)
