"""What a run found, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shapely.geometry.base import BaseGeometry

from midog_qupath.detection import Detection
from midog_qupath.errors import MidogError
from midog_qupath.project.model import ImageEntry, PathObject
from midog_qupath.project.plan import Plan
from midog_qupath.units import MicronsPerPixel

#: Whether detections stand in the project, in GeoJSON beside it, or nowhere yet (a dry run).
State = Literal["written", "sidecar", "planned"]


@dataclass(frozen=True)
class ImageResult:
    """What a run found in one image: ``area`` (slide pixels) was searched, ``mpp`` per slide pixel."""

    entry: ImageEntry
    detections: Sequence[Detection]
    area: BaseGeometry
    mpp: MicronsPerPixel


@dataclass(frozen=True)
class ImageReport:
    """What became of one image; ``error`` says why its detections stand in the sidecar only."""

    entry_id: str
    name: str
    sidecar: Path
    state: State
    added: int = 0
    removed: int = 0
    touched: int = 0
    near_ours: int = 0
    near_deleted: int = 0
    error: MidogError | None = None


@dataclass(frozen=True)
class RunReport:
    """What became of a run; ``backup`` is None where the project itself was not to be changed."""

    run: str
    store: str
    images: tuple[ImageReport, ...]
    backup: Path | None

    @property
    def failed(self) -> tuple[ImageReport, ...]:
        """The images that could not be written."""
        return tuple(image for image in self.images if image.error is not None)


@dataclass(frozen=True)
class Item:
    """One image of a run: what was found, the objects made of it, and where its sidecar lies."""

    result: ImageResult
    new: tuple[PathObject, ...]
    sidecar: Path

    @property
    def entry(self) -> ImageEntry:
        """The image."""
        return self.result.entry


def image_report(item: Item, planned: Plan | None, state: State) -> ImageReport:
    """What a plan comes to; without one, nothing was to be done to the image."""
    done = planned or Plan(remove=frozenset(), add=(), touched=0, near_ours=0, near_deleted=0)
    return ImageReport(
        entry_id=item.entry.entry_id,
        name=item.entry.name,
        sidecar=item.sidecar,
        state=state,
        added=len(done.add),
        removed=len(done.remove),
        touched=done.touched,
        near_ours=done.near_ours,
        near_deleted=done.near_deleted,
    )
