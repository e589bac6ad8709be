"""Proof after a write: everything of others is as it was, and ours is what was given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from midog_qupath.errors import SafetyError
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.model import PathObject, Roi
from midog_qupath.project.shapes import same_shapes
from midog_qupath.project.stores.base import Edit

#: Relative error of a number that was stored in 32 bits.
STORED_PRECISION = 1e-6

_REMEDY = "Use --sidecar-only for this image and import the detections in QuPath."


def verify_unchanged(before: Sequence[PathObject], after: Sequence[PathObject], edit: Edit) -> None:
    """Raise SafetyError at the first difference between what ``edit`` should do and what it did.

    ``before`` and ``after`` are the objects of an image as the same kind of store read them. Objects that
    the edit does not name are equal in id, kind, parent, class, name, shape, measurements, metadata, lock
    and colour; those to remove are gone; those to add stand once each, under the root, as given up to
    32-bit numbers.
    """
    added = {item.id for item in edit.new}
    theirs_before = Counter(_everything(item) for item in before if item.id not in edit.remove)
    theirs_after = Counter(_everything(item) for item in after if item.id not in added)
    _require_equal(theirs_before, theirs_after)
    found = Counter(item.id for item in after)
    by_id = {item.id: item for item in after}
    for item in edit.new:
        if found[item.id] != 1:
            raise SafetyError(
                f"The new {item.kind} {item.id} stands {found[item.id]} times in the image.", _REMEDY
            )
    for item, as_given in zip(
        edit.new, _all_as_given(edit.new, [by_id[i.id] for i in edit.new]), strict=True
    ):
        if not as_given:
            raise SafetyError(f"The new {item.kind} {item.id} is not as it was written.", _REMEDY)


def _require_equal(before: Counter[tuple[Hashable, ...]], after: Counter[tuple[Hashable, ...]]) -> None:
    if before == after:
        return
    lost, new = list((before - after).elements()), list((after - before).elements())
    if not lost:
        raise SafetyError(f"An object that was not there before stands in the image: {new[0][0]}.", _REMEDY)
    twin = next((item for item in new if item[0] == lost[0][0]), None)
    if twin is None:
        raise SafetyError(f"Object {lost[0][0]}, which is not ours, is gone.", _REMEDY)
    differing = [name for name, old, now in zip(_FIELDS, lost[0], twin, strict=True) if old != now]
    raise SafetyError(f"Object {lost[0][0]}, which is not ours, changed its {', '.join(differing)}.", _REMEDY)


_FIELDS = (
    "id",
    "kind",
    "parent",
    "class",
    "name",
    "shape",
    "nucleus",
    "measurements",
    "metadata",
    "lock",
    "colour",
)


def _everything(item: PathObject) -> tuple[Hashable, ...]:
    # repr: NaN equals itself then.
    return (
        item.id,
        item.kind,
        item.parent_id,
        item.class_name,
        item.name,
        _shape(item.roi),
        _shape(item.nucleus),
        tuple(sorted((name, repr(value)) for name, value in item.measurements.items())),
        tuple(sorted(item.metadata.items())),
        item.locked,
        item.color,
    )


def _shape(roi: Roi | None) -> Hashable:
    return None if roi is None else (roi.kind, roi.plane, roi.geometry.wkb)


def _all_as_given(given: Sequence[PathObject], found: Sequence[PathObject]) -> list[bool]:
    shapes = [
        (one.roi.geometry, other.roi.geometry)
        for one, other in zip(given, found, strict=True)
        if one.roi is not None and other.roi is not None
    ]
    same = iter(same_shapes([one for one, _ in shapes], [other for _, other in shapes]).tolist())
    return [
        one.roi is not None and other.roi is not None and bool(next(same)) and _as_given(one, other)
        for one, other in zip(given, found, strict=True)
    ]


def _as_given(given: PathObject, found: PathObject) -> bool:
    """All but the shape."""
    planes = {item.roi.plane for item in (given, found) if item.roi is not None}
    return (
        (found.kind, found.parent_id, found.name or None) == (given.kind, None, given.name)
        and (
            found.class_name == given.class_name
            or normalised(found.class_name or "") == normalised(given.class_name or "")
        )
        and len(planes) == 1
        and found.measurements.keys() == given.measurements.keys()
        and all(
            math.isclose(value, found.measurements[name], rel_tol=STORED_PRECISION)
            for name, value in given.measurements.items()
        )
    )
