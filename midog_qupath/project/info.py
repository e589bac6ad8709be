"""What is in a project, what is missing, and whether work can begin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midog_qupath.errors import MidogError
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import ground_truth
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject, Project
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.choose import people_objects
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp


@dataclass
class _Found:
    """What is found of one image; ``stops`` are problems that keep work from it, ``notes`` are not."""

    row: dict[str, Any]
    stops: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
) -> ProjectInfo:
    """Look at every image of a project: pixels, pixel size, annotations, extent.

    ``classes`` are counts of annotations by class. Problems of one image do not keep the others from
    being described.
    """
    found = [_image(entry, store, class_map, ground_truth_dir, mpp) for entry in project.images]
    total: Counter[str] = Counter()
    for image in found:
        total.update(image.row["classes"])
    stops = [problem for image in found for problem in image.stops]
    if not project.images:
        stops.append("The project holds no images. Add some in QuPath, or make one with midog-qupath new.")
    notes = [problem for image in found for problem in image.notes]
    if project.images and not any(class_map.role(name) for name in total):
        notes.append("No annotation has a class that means a mitosis, a look-alike or a region to us.")
    data = {
        "path": str(project.path),
        "store": store.name,
        "images": [image.row for image in found],
        "classes": dict(sorted(total.items())),
        "problems": [*stops, *_together(notes)],
    }
    return ProjectInfo(data, usable=not stops)


def _together(notes: Sequence[str]) -> list[str]:
    """Many stale addresses are one note: after a move all are."""
    stale = [note for note in notes if "address no longer holds" in note]
    if len(stale) <= 3:
        return list(notes)
    summary = f"{len(stale)} image addresses no longer hold; the images were found relative to the project."
    return [summary, *(note for note in notes if note not in stale)]


def _image(
    entry: ImageEntry,
    store: ProjectStore,
    class_map: ClassMap,
    ground_truth_dir: Path | None,
    mpp: float | None,
) -> _Found:
    found = _Found(
        {
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
    )
    if entry.stale:
        found.notes.append(f"{entry.name}: its address no longer holds; found at {entry.path}.")
    _look_at_pixels(found, entry, mpp)
    try:
        things = people_objects(store, entry, ground_truth_dir)
        found.row["classes"] = _count(things, annotations=True)
        found.row["detections"] = _count(things, annotations=False)
        found.row["extent"] = ground_truth(entry, things, class_map).extent
    except MidogError as error:
        found.stops.append(str(error))
    return found


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
        found.notes.append(f"{entry.name}: {resolved.mpp:.3g} µm per pixel is coarse for mitoses.")


def _count(things: Sequence[PathObject], annotations: bool) -> dict[str, int]:
    chosen = (thing for thing in things if (thing.kind is ObjectKind.ANNOTATION) == annotations)
    return dict(sorted(Counter(thing.class_name or "Unclassified" for thing in chosen).items()))
