"""What is in a project, what is missing, and whether work can begin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midog_qupath.errors import MidogError
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import labelled_extent
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject, Project
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.choose import people_objects
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp

#: How many images may say the same before one line says it for all.
_SEPARATELY = 3


@dataclass(frozen=True)
class _Note:
    """What one image has to say; ``of_many`` says it of that many images in one line."""

    text: str
    of_many: str


@dataclass
class _Found:
    """What is found of one image; ``stops`` keep work from it, ``notes`` do not."""

    row: dict[str, Any]
    stops: list[str] = field(default_factory=list)
    notes: list[_Note] = field(default_factory=list)


@dataclass(frozen=True)
class ProjectInfo:
    """``data`` as printed by ``info --json``; ``usable``: no problem keeps work from any image."""

    data: dict[str, Any]
    usable: bool


def describe(
    project: Project,
    store: ProjectStore,
    class_map: ClassMap,
    ground_truth_dir: Path | None = None,
    mpp: float | None = None,
    progress: Progress = SILENT,
) -> ProjectInfo:
    """Look at every image of a project: pixels, pixel size, annotations, extent.

    ``classes`` are counts of annotations by class, of each image and of all; ``mpp`` is microns per pixel
    where neither project nor file say it. Problems of one image do not keep the others from being
    described.
    """
    found: list[_Found] = []
    with progress.task("Looking at images", total=len(project.images), unit="images") as advance:
        for entry in project.images:
            found.append(_image(entry, store, class_map, ground_truth_dir, mpp))
            advance(1)
    total: Counter[str] = Counter()
    for image in found:
        total.update(image.row["classes"])
    stops = [problem for image in found for problem in image.stops]
    if not project.images:
        stops.append("The project holds no images. Add some in QuPath, or make one with midog-qupath new.")
    problems = [*stops, *_together([note for image in found for note in image.notes])]
    if project.images and not any(class_map.role(name) for name in total):
        problems.append(_no_ground_truth(total))
    data = {
        "path": str(project.path),
        "store": store.name,
        "images": [image.row for image in found],
        "classes": dict(sorted(total.items())),
        "problems": problems,
    }
    return ProjectInfo(data, usable=not stops)


def _no_ground_truth(classes: Counter[str]) -> str:
    if not classes:
        return "There are no annotations: nothing to train on or to evaluate with."
    return (
        "No annotation has a class that means a mitosis, a look-alike or a region: nothing to train on or to "
        "evaluate with. --class-map says what the project's classes mean."
    )


def _together(notes: Sequence[_Note]) -> list[str]:
    """Each note, but one line for what many images say: after a move all addresses are stale."""
    counts = Counter(note.of_many for note in notes)
    lines = [
        note.text if counts[note.of_many] <= _SEPARATELY else f"{counts[note.of_many]} {note.of_many}"
        for note in notes
    ]
    return list(dict.fromkeys(lines))


def _image(
    entry: ImageEntry,
    store: ProjectStore,
    class_map: ClassMap,
    ground_truth_dir: Path | None,
    mpp: float | None,
) -> _Found:
    found = _Found(_empty_row(entry))
    if entry.stale:
        found.notes.append(
            _Note(
                f"{entry.name}: its address {entry.builder.uri} no longer holds; found at {entry.path}.",
                "image addresses no longer hold; the images were found relative to the project.",
            )
        )
    if entry.copy_of is not None:
        found.notes.append(
            _Note(
                f"{entry.name} shows the same file as {entry.copy_of}: its labels count twice.",
                "images show the same file as another: their labels count twice.",
            )
        )
    _look_at_pixels(found, entry, mpp)
    try:
        things = people_objects(store, entry, ground_truth_dir)
        found.row["classes"] = _count(things, annotations=True)
        found.row["detections"] = _count(things, annotations=False)
        found.row["extent"] = labelled_extent(entry, things, class_map)
    except MidogError as error:
        found.stops.append(str(error))
    return found


def _empty_row(entry: ImageEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "entry_id": entry.entry_id,
        "address": entry.address,
        "stale": entry.stale,
        "readable": False,
        "width": entry.width,
        "height": entry.height,
        "mpp": entry.mpp,
        "domain": entry.metadata.get("domain"),
        "case": entry.metadata.get("case"),
        "extent": None,
        "classes": {},
        "detections": {},
    }


def _look_at_pixels(found: _Found, entry: ImageEntry, mpp: float | None) -> None:
    try:
        with open_entry(entry) as slide:
            found.row.update(readable=True, width=slide.width, height=slide.height)
            resolved = resolve_mpp(entry, slide, mpp, force=True)
    except MidogError as error:
        found.stops.append(str(error))
        return
    found.row["mpp"] = resolved.mpp
    if resolved.coarse:
        found.notes.append(
            _Note(
                f"{entry.name}: {resolved.mpp:.3g} µm per pixel is coarse for mitoses.",
                "images are coarser than 0.35 µm per pixel: mitoses are hard to tell there.",
            )
        )
    if resolved.doubt:
        doubt = f"its pixel size of {resolved.mpp:.3g} µm is in doubt: {resolved.doubt}"
        found.notes.append(_Note(f"{entry.name}: {doubt}", "images have a pixel size that is in doubt."))


def _count(things: Sequence[PathObject], annotations: bool) -> dict[str, int]:
    chosen = (thing for thing in things if (thing.kind is ObjectKind.ANNOTATION) == annotations)
    return dict(sorted(Counter(thing.class_name or "Unclassified" for thing in chosen).items()))
