"""What a run may put into an image and take out of it: a pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath.project.manifest import RunManifest
from midog_qupath.project.model import PathObject
from midog_qupath.project.ours import Standing, classify, deleted
from midog_qupath.project.shapes import centre, centres, near
from midog_qupath.units import MATCH_RADIUS, MicronsPerPixel, to_pixels


@dataclass(frozen=True)
class Plan:
    """What a run may do to an image, and how many objects stay or are left out for which reason.

    ``touched`` objects of ours stay because a person changed them; ``near_ours`` new detections are left
    out beside an object of ours that stays, ``near_deleted`` where a person deleted one.
    """

    remove: frozenset[UUID]
    add: tuple[PathObject, ...]
    touched: int
    near_ours: int
    near_deleted: int


def plan(
    objects: Sequence[PathObject],
    manifests: Sequence[RunManifest],
    new: Sequence[PathObject],
    *,
    entry_id: str,
    area: BaseGeometry,
    mpp: MicronsPerPixel,
    keep: bool,
) -> Plan:
    """What a run that searched ``area`` (slide pixels) and found ``new`` may do to an image.

    Untouched objects of ours whose centre lies inside ``area`` go, unless ``keep``. A new detection is left
    out when its centre is within 7.5 um of an object of ours that stays, or of one that a person deleted.
    People's objects play no part: detections beside them are what an evaluation counts. ``mpp`` is the
    image's microns per slide pixel.
    """
    standings = classify(objects, manifests)
    remove = frozenset() if keep else _inside(objects, replaceable(objects, standings), area)
    staying = [
        item
        for item, whose in zip(objects, standings, strict=True)
        if whose not in (Standing.THEIRS, Standing.COUNT) and item.id not in remove
    ]
    radius = to_pixels(MATCH_RADIUS, mpp)
    positions = [centre(item) for item in new]
    taken = {item.id for item in objects} - remove
    near_ours = near(positions, centres(staying), radius)
    near_ours |= np.array([item.id in taken for item in new], dtype=np.bool_)
    near_deleted = near(positions, deleted(objects, manifests, entry_id), radius) & ~near_ours
    left_out = near_ours | near_deleted
    return Plan(
        remove=remove,
        add=tuple(item for item, out in zip(new, left_out, strict=True) if not out),
        touched=standings.count(Standing.TOUCHED),
        near_ours=int(near_ours.sum()),
        near_deleted=int(near_deleted.sum()),
    )


def replaceable(objects: Sequence[PathObject], standings: Sequence[Standing]) -> frozenset[UUID]:
    """The ids of those objects of ours that may be taken out of an image: untouched, and nobody's parent."""
    go = {item.id for item, whose in zip(objects, standings, strict=True) if whose is Standing.UNTOUCHED}
    # An id that stands twice (a file imported twice) names no single object. And no person's object that
    # was put inside one of ours may lose its parent.
    twice = {identity for identity, count in Counter(item.id for item in objects).items() if count > 1}
    parents = {item.parent_id for item in objects}
    return frozenset(identity for identity in go - twice - parents if identity is not None)


def _inside(objects: Sequence[PathObject], chosen: frozenset[UUID], area: BaseGeometry) -> frozenset[UUID]:
    candidates = [item for item in objects if item.id in chosen]
    if not candidates:
        return frozenset()
    shapely.prepare(area)
    inside = shapely.intersects_xy(area, np.array([centre(item) for item in candidates]))
    return frozenset(item.id for item, hit in zip(candidates, inside, strict=True) if hit and item.id)
