"""What undoing a run takes out of an image and puts back into it: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from midog_qupath.project.manifest import ImageRecord, RunManifest
from midog_qupath.project.model import PathObject
from midog_qupath.project.ours import Standing, classify, deleted, deleted_by_run, stands, wiped_runs
from midog_qupath.project.plan import replaceable
from midog_qupath.project.shapes import centre, centres, near
from midog_qupath.units import MATCH_RADIUS, MicronsPerPixel, to_pixels


@dataclass(frozen=True)
class UndoPlan:
    """What to do to an image.

    ``remove`` detections of the run go, ``add`` older ones come back, ``left_out`` is how many do not, beside
    what a person kept or deleted. ``kept`` of the run stay because a person touched them. ``taken_back`` are
    all of the run that neither stay nor were deleted by a person.
    """

    remove: frozenset[UUID]
    add: tuple[PathObject, ...]
    taken_back: frozenset[UUID]
    kept: int
    left_out: int


def comes_back(objects: Sequence[PathObject], record: ImageRecord) -> frozenset[UUID]:
    """The ids of older detections that the run of ``record`` replaced and that the image lacks now."""
    present = {item.id for item in objects}
    done = record.state == "undoing" and record.taken_back and present.isdisjoint(record.taken_back)
    if done or not stands(record, present):
        return frozenset()
    return frozenset(identity for identity in record.removed if identity not in present)


def plan_undo(
    objects: Sequence[PathObject],
    manifests: Sequence[RunManifest],
    run: RunManifest,
    record: ImageRecord,
    older: Sequence[PathObject],
) -> UndoPlan:
    """What undoing ``run``, whose record of the image is ``record``, does to an image.

    ``older`` are the detections that :func:`comes_back` names. One of them is left out when its centre is
    within 7.5 um of a detection of ours that stays or of one that a person deleted. Where a person deleted
    all detections of the run, that is taken to mean what undoing means: it keeps nothing away.
    """
    standings = classify(objects, manifests)
    mine = {written.id for written in record.objects}
    remove = replaceable(objects, standings) & mine
    staying = [
        item
        for item, whose in zip(objects, standings, strict=True)
        if whose is not Standing.THEIRS and item.id not in remove
    ]
    wiped = run.run in wiped_runs(objects, manifests, record.entry_id)
    by_person = frozenset[UUID]() if wiped else deleted_by_run(objects, manifests, record.entry_id, run.run)
    shunned = [
        *centres(staying),
        *deleted(objects, manifests, record.entry_id, unheard=run.run if wiped else None),
    ]
    beside = near(
        [centre(item) for item in older], shunned, to_pixels(MATCH_RADIUS, MicronsPerPixel(record.mpp))
    )
    stay = {item.id for item in staying}
    return UndoPlan(
        remove=remove,
        add=tuple(item for item, out in zip(older, beside, strict=True) if not out),
        taken_back=frozenset(mine - stay - by_person),
        kept=len(mine & stay),
        left_out=int(beside.sum()),
    )
