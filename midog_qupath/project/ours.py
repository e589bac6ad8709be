"""Ours and theirs: which detections are ours, and which of them a person changed or deleted.

Pure functions of the objects of an image and the manifests of the project. What they decide:

=================  ========================================  ==============  ============
standing           which objects                             a re-run        ground truth
=================  ========================================  ==============  ============
``theirs``         all but our detections                    leaves them     yes
``touched``        ours, changed or reviewed by a person     leaves them     yes
``untouched``      ours, as written                          replaces them   no
``unproven``       marked as ours, no record of what we      leaves them     no
                   wrote (below)
``count``          annotations of ours that show a mitotic   leaves them     no
                   count, in their class ``Hotspot``
=================  ========================================  ==============  ============

An object is ours when it is a detection and its id is in a manifest or it carries the measurement
``midog run``. The mark outlives a project that is passed on without our folder; what was written then
comes from the object's own metadata, which QuPath keeps since 0.6. Where that is gone too, nobody can
tell whether a person changed the object: it stays, and nothing is learned from it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from enum import StrEnum
from uuid import UUID

from midog_qupath.project.classes_file import normalised
from midog_qupath.project.manifest import (
    ImageRecord,
    RunManifest,
    WrittenObject,
    load_manifests,
    written_objects,
)
from midog_qupath.project.model import (
    COUNT_MEASUREMENT,
    HOTSPOT_CLASS,
    ObjectKind,
    PathObject,
    Project,
)
from midog_qupath.project.shapes import Position, centres, near, same_bounds, same_shape
from midog_qupath.units import MATCH_RADIUS, MicronsPerPixel, to_pixels

#: Measurement that marks an object as ours; its value is the number of the run in the project.
RUN_MEASUREMENT = "midog run"
#: Measurement that a person (or a review script) sets, to anything but 0, on an object that was looked at.
REVIEWED_MEASUREMENT = "Reviewed"
#: Metadata of an object of ours: class and bounds as written, ``Mitosis: Normal|x0 y0 x1 y1``.
WRITTEN_METADATA = "midog_qupath.written"


class Standing(StrEnum):
    """Whose an object is, and whether it is still as we wrote it."""

    THEIRS = "theirs"
    TOUCHED = "touched"
    UNTOUCHED = "untouched"
    UNPROVEN = "unproven"
    COUNT = "count"


def classify(objects: Iterable[PathObject], manifests: Iterable[RunManifest]) -> list[Standing]:
    """The standing of each object, in order."""
    written = written_objects(manifests)
    return [standing(item, written) for item in objects]


def standing(item: PathObject, written: Mapping[UUID, WrittenObject]) -> Standing:
    """The standing of one object; ``written`` as :func:`manifest.written_objects` gives it."""
    if _shows_count(item):
        return Standing.COUNT
    record = written.get(item.id) if item.id else None
    ours = record is not None or RUN_MEASUREMENT in item.measurements
    if item.kind is not ObjectKind.DETECTION or not ours:
        return Standing.THEIRS
    if item.name or item.measurements.get(REVIEWED_MEASUREMENT, 0.0) != 0.0:
        return Standing.TOUCHED
    as_written = _as_manifest_says(item, record) if record else _as_metadata_say(item)
    if as_written is None:
        return Standing.UNPROVEN
    return Standing.UNTOUCHED if as_written else Standing.TOUCHED


def _shows_count(item: PathObject) -> bool:
    # Of another class, a person has made something of it.
    return (
        item.kind is ObjectKind.ANNOTATION
        and COUNT_MEASUREMENT in item.measurements
        and _same_class(item, HOTSPOT_CLASS)
    )


def untouched_hotspots(objects: Sequence[PathObject]) -> frozenset[UUID]:
    """The ids of annotations that show a count of ours and are as we wrote them, and nobody's parent."""
    ids = [item.id for item in objects]
    parents = {item.parent_id for item in objects}
    return frozenset(
        item.id
        for item in objects
        if item.id is not None
        and _shows_count(item)
        and not item.name
        and _as_metadata_say(item) is True
        and item.id not in parents
        and ids.count(item.id) == 1
    )


def written_mark(class_name: str, bounds: Sequence[float]) -> str:
    """The value of :data:`WRITTEN_METADATA` for a new object; ``bounds`` x0, y0, x1, y1 in slide pixels."""
    x0, y0, x1, y1 = bounds
    return f"{class_name}|{x0:.2f} {y0:.2f} {x1:.2f} {y1:.2f}"


def _as_manifest_says(item: PathObject, record: WrittenObject) -> bool:
    return (
        item.roi is not None
        and _same_class(item, record.class_name)
        and same_shape(item.roi.geometry, record.geometry())
    )


def _as_metadata_say(item: PathObject) -> bool | None:
    class_name, bar, numbers = item.metadata.get(WRITTEN_METADATA, "").rpartition("|")
    try:
        bounds = [float(number) for number in numbers.split()]
    except ValueError:
        return None
    if not bar or len(bounds) != 4:
        return None
    return (
        item.roi is not None
        and _same_class(item, class_name)
        and same_bounds(item.roi.geometry.bounds, bounds)
    )


def _same_class(item: PathObject, class_name: str) -> bool:
    return item.class_name is not None and normalised(item.class_name) == normalised(class_name)


def deleted(
    objects: Iterable[PathObject],
    manifests: Iterable[RunManifest],
    entry_id: str,
    unheard: str | None = None,
) -> list[Position]:
    """Centres (slide pixels) of the detections of ours that a person deleted from an image.

    In the manifest of a run, and gone. Not those that a later run of ours replaced or that were undone,
    nor those of a run that never came to stand in the image, or was overwritten by an older state (the
    objects that it had replaced are back). ``unheard``: a run whose deleted detections do not count.
    """
    present = {item.id for item in objects}
    gone = {
        written.id: (written.x, written.y)
        for run, _, missing in _missing(present, manifests, entry_id)
        for written in missing
        if run != unheard
    }
    return list(gone.values())


def deleted_by_run(
    objects: Iterable[PathObject], manifests: Iterable[RunManifest], entry_id: str, run: str
) -> frozenset[UUID]:
    """The ids of the detections of one run that a person deleted from an image."""
    present = {item.id for item in objects}
    return frozenset(
        written.id
        for name, _, missing in _missing(present, manifests, entry_id)
        for written in missing
        if name == run
    )


def replaced_by(
    objects: Iterable[PathObject], manifests: Iterable[RunManifest], entry_id: str, run: str
) -> str | None:
    """The newest run that took detections of ``run`` out of an image, None where there is none."""
    present = {item.id for item in objects}
    records = _records(manifests, entry_id)
    replaced = _replaced(list(records.values()), present)
    mine = {written.id for written in records[run].objects} & replaced
    found = [name for name, record in records.items() if name != run and mine.intersection(record.removed)]
    return found[-1] if found else None


def wiped_runs(objects: Iterable[PathObject], manifests: Iterable[RunManifest], entry_id: str) -> list[str]:
    """Runs of which nothing is left in an image although they wrote several detections there.

    A person can have deleted them all; or QuPath had the image open and saved over them.
    """
    present = {item.id for item in objects}
    return [
        run
        for run, record, missing in _missing(present, manifests, entry_id)
        if len(missing) == len(record.objects) > 1 and record.state not in ("undoing", "undone")
    ]


def replaces(record: ImageRecord, present: Container[UUID | None]) -> bool:
    """Whether what ``record`` says was written and removed has happened, by the ids ``present``.

    True as well for an image that a run was writing when it was cut short, not for one in which it is undone.
    """
    return record.state != "undone" and (record.state == "planned" or stands(record, present))


def stands(record: ImageRecord, present: Container[UUID | None]) -> bool:
    """Whether a run came to stand in an image, as far as the ids ``present`` and its record tell."""
    # The state says less than the image: a run can be killed between the image and the manifest, a
    # sidecar imported in QuPath later, an image saved over by a QuPath that had it open.
    if any(written.id in present for written in record.objects):
        return True
    return record.state == "written" and not any(identity in present for identity in record.removed)


def _missing(
    present: set[UUID | None], manifests: Iterable[RunManifest], entry_id: str
) -> list[tuple[str, ImageRecord, list[WrittenObject]]]:
    records = _records(manifests, entry_id)
    replaced = _replaced(list(records.values()), present)
    accounted = present.union(replaced, *(record.taken_back for record in records.values()))
    return [
        (run, record, [written for written in record.objects if written.id not in accounted])
        for run, record in records.items()
        # What an undone run neither left nor took back, a person had deleted before.
        if record.state == "undone" or stands(record, present) or _any_of(record, replaced)
    ]


def _records(manifests: Iterable[RunManifest], entry_id: str) -> dict[str, ImageRecord]:
    """The records of an image by run, oldest first."""
    return {
        manifest.run: record
        for manifest in sorted(manifests, key=lambda one: (one.number, one.run))
        if (record := manifest.image(entry_id)) is not None
    }


def _replaced(records: Sequence[ImageRecord], present: Container[UUID | None]) -> set[UUID]:
    """What later runs of ours took out; ``records`` oldest first."""
    replaced: set[UUID] = set()
    for record in reversed(records):
        # A run of which a later one took something out had come to stand, though nothing of it is left.
        if replaces(record, present) or (record.state != "undone" and _any_of(record, replaced)):
            replaced.update(record.removed)
    return replaced


def _any_of(record: ImageRecord, ids: Container[UUID]) -> bool:
    return any(written.id in ids for written in record.objects)


def ours_state(project: Project) -> Callable[[PathObject], Standing]:
    """Tells the standing of any object of a project: ground truth is what is ``THEIRS`` or ``TOUCHED``.

    Reads the manifests once. Raises SafetyError for a damaged manifest.
    """
    written = written_objects(load_manifests(project))
    return lambda item: standing(item, written)


def deleted_positions(
    objects: Sequence[PathObject],
    manifests: Sequence[RunManifest],
    entry_id: str,
    mpp: MicronsPerPixel,
) -> list[Position]:
    """Where a person deleted a detection of ours: candidates for look-alikes, centres in slide pixels.

    ``objects`` are all objects of the image. Positions within 7.5 um of the centre of a person's object
    or of a touched one are left out: who deletes a detection and draws the figure does not call it a
    look-alike.
    """
    positions = deleted(objects, manifests, entry_id)
    spoken = centres(
        item
        for item, whose in zip(objects, classify(objects, manifests), strict=True)
        if whose in (Standing.THEIRS, Standing.TOUCHED)
    )
    spoken_for = near(positions, spoken, to_pixels(MATCH_RADIUS, mpp))
    return [position for position, out in zip(positions, spoken_for, strict=True) if not out]
