"""``runs/<run>.json``: what a run of ours put into which image, and what it took out.

The manifest tells ours from theirs, and touched from untouched. It is saved before an image is changed,
with the objects that are about to be written, and again after: wherever a run is cut short, every object
of ours in the project is in a manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from uuid import UUID

import shapely
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import SafetyError
from midog_qupath.files import write_bytes
from midog_qupath.project.disk import writing
from midog_qupath.project.model import Project

SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WrittenObject(_Record):
    """A detection as it was written: ``x``, ``y`` = centre, ``outline`` = WKT, slide pixels.

    Ours have no name, so a name is always a person's.
    """

    id: UUID
    class_name: str
    x: float
    y: float
    outline: str

    def geometry(self) -> BaseGeometry:
        """The outline in slide pixels."""
        return shapely.from_wkt(self.outline)


class ImageRecord(_Record):
    """What a run did to one image.

    ``state`` is ``planned`` while the image is being written, ``written`` once it was read back and
    found right, ``sidecar`` where the detections stand in the GeoJSON file only, ``undoing`` and ``undone``
    while and after the run is taken out of the image again. ``area`` (WKT, slide pixels) is what was
    searched, ``removed`` the older detections of ours that ``objects`` replace, ``taken_back`` those of
    ``objects`` that undoing or restoring took out (so that a person did not), ``mpp`` microns per slide
    pixel, ``sidecar`` relative to ``midog-qupath``.
    """

    entry_id: str
    name: str
    stem: str
    state: Literal["planned", "written", "sidecar", "undoing", "undone"]
    mpp: float = Field(gt=0)
    area: str
    sidecar: str
    objects: tuple[WrittenObject, ...]
    removed: tuple[UUID, ...] = ()
    taken_back: tuple[UUID, ...] = ()


class RunManifest(_Record):
    """One run of ``annotate``.

    ``number`` is the value of the measurement ``midog run`` on its objects, ``started`` and ``finished``
    are ISO times (``finished`` None: still at work or cut short), ``threshold`` and
    ``atypical_threshold`` probabilities in 0..1. ``undone``: it is to be taken out of all its images; which
    of them are done, their records say.
    """

    schema_version: Literal[1] = 1
    run: str
    number: int = Field(ge=1)
    started: str
    finished: str | None = None
    undone: bool = False
    model: str
    model_sha256: str
    threshold: float
    atypical_threshold: float | None
    software: dict[str, str]
    store: str
    keep: bool
    #: Whether the model's mitosis probabilities say how often they are right; None: nobody wrote it down.
    calibrated: bool | None = None
    images: tuple[ImageRecord, ...] = ()

    def image(self, entry_id: str) -> ImageRecord | None:
        """The record of one image, or None where the run left that image alone."""
        return next((image for image in self.images if image.entry_id == entry_id), None)

    def with_image(self, record: ImageRecord) -> RunManifest:
        """A copy in which ``record`` is added or replaces the image's older record."""
        others = tuple(image for image in self.images if image.entry_id != record.entry_id)
        return self.model_copy(update={"images": (*others, record)})


def manifest_path(project: Project, run: str) -> Path:
    """Where the manifest of a run lies."""
    return project.ours / "runs" / f"{run}.json"


def save_manifest(project: Project, manifest: RunManifest) -> None:
    """Write a manifest, whole or not at all. Raises SafetyError when the disk refuses."""
    path = manifest_path(project, manifest.run)
    with writing(path):
        write_bytes(path, manifest.model_dump_json(indent=1).encode())


def load_manifests(project: Project) -> tuple[RunManifest, ...]:
    """All manifests of a project, oldest run first.

    Raises SafetyError for a damaged one: without it nobody can tell which objects of that run a person
    changed or deleted, and a run that went on would overrule them.
    """
    folder = project.ours / "runs"
    return tuple(sorted(map(_load, folder.glob("*.json")), key=lambda found: (found.number, found.run)))


def written_objects(manifests: Iterable[RunManifest]) -> dict[UUID, WrittenObject]:
    """Every object that any run wrote or was about to write, by id.

    Over all images, not one: an image duplicated in QuPath carries copies with the same ids.
    """
    return {
        written.id: written
        for manifest in manifests
        for image in manifest.images
        for written in image.objects
    }


def _load(path: Path) -> RunManifest:
    try:
        manifest = RunManifest.model_validate_json(path.read_bytes())
        for image in manifest.images:
            shapely.from_wkt([image.area, *(written.outline for written in image.objects)])
    except (OSError, ValidationError, shapely.GEOSException) as error:
        reason = str(error).strip().splitlines()[0]
        raise SafetyError(
            f"{path} is damaged or from a newer version ({reason}): it tells which detections are ours.",
            "Restore it from a copy; or move it away, and the detections of that run that a person "
            "deleted may come back.",
        ) from error
    return manifest
