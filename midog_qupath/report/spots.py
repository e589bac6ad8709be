"""Places in images that a person wants to look at, and the galleries they are shown in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midog_qupath.project.classes import ClassMap, Role
from midog_qupath.project.geojson import read_features
from midog_qupath.project.manifest import RunManifest
from midog_qupath.project.model import PathObject, Project
from midog_qupath.project.shapes import centre

MITOSES: tuple[Role, ...] = ("mitosis", "normal", "atypical")


@dataclass(frozen=True)
class Spot:
    """A place: ``x``, ``y`` in slide pixels of the image with this ``entry_id``.

    ``label``: what it is, in words. ``certainty``: probability (0..1) of a mitosis, ``atypical``: that it
    is an atypical one; None where nobody said.
    """

    entry_id: str
    x: float
    y: float
    label: str
    certainty: float | None = None
    atypical: float | None = None


@dataclass(frozen=True)
class Gallery:
    """Spots under one heading; ``says``: what they have in common, ``key``: an id for the page."""

    key: str
    title: str
    says: str
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class RunDetections:
    """What a run found, by the id of the image; ``lost``: images whose GeoJSON file is gone or broken."""

    spots: dict[str, tuple[Spot, ...]]
    roles: dict[str, tuple[Role, ...]]
    lost: tuple[str, ...]

    def all(self) -> tuple[Spot, ...]:
        """Every detection, image by image."""
        return tuple(spot for spots in self.spots.values() for spot in spots)


def read_run(project: Project, run: RunManifest, class_map: ClassMap) -> RunDetections:
    """Read the detections that a run wrote into its GeoJSON files; only those of a mitotic class."""
    from midog_qupath.errors import GeoJsonError

    spots: dict[str, tuple[Spot, ...]] = {}
    roles: dict[str, tuple[Role, ...]] = {}
    lost: list[str] = []
    for image in run.images:
        try:
            things = read_features(project.ours / image.sidecar)
        except GeoJsonError:
            lost.append(image.name)
            continue
        known = [(thing, class_map.role(thing.class_name)) for thing in things if thing.roi is not None]
        kept = [(thing, role) for thing, role in known if role in MITOSES]
        spots[image.entry_id] = tuple(_spot(thing, image.entry_id) for thing, _ in kept)
        roles[image.entry_id] = tuple(role for _, role in kept if role is not None)
    return RunDetections(spots, roles, tuple(lost))


def _spot(thing: PathObject, entry_id: str) -> Spot:
    x, y = centre(thing)
    return Spot(
        entry_id,
        x,
        y,
        thing.class_name or "",
        thing.measurements.get("Mitosis probability"),
        thing.measurements.get("Atypical probability"),
    )


def by_class(spots: Sequence[Spot]) -> tuple[Gallery, ...]:
    """A gallery a class, the most certain first."""
    names = sorted({spot.label for spot in spots})
    return tuple(
        Gallery(
            key=f"class-{number}",
            title=name,
            says="Detections of this class.",
            spots=most_certain_first([spot for spot in spots if spot.label == name]),
        )
        for number, name in enumerate(names)
    )


def most_certain_first(spots: Sequence[Spot]) -> tuple[Spot, ...]:
    """Sorted by falling certainty; those without any last."""
    return tuple(sorted(spots, key=lambda spot: -(-1.0 if spot.certainty is None else spot.certainty)))


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the indices 0 to ``count`` - 1, evenly spread, both ends among them.

    Of a gallery sorted by certainty so many have a picture: the doubtful ones as well as the certain.
    """
    if count <= most:
        return list(range(count))
    return sorted({int(index) for index in np.linspace(0, count - 1, most).round()})
