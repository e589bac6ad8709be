"""Which images a run searches, and what of them: nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import MidogError, ProjectError, SlideError, none_worked
from midog_qupath.inference.areas import Job, area_of_file, cell_side, union_of_areas
from midog_qupath.inference.speed import Speed
from midog_qupath.models.bundle import Bundle
from midog_qupath.progress import Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.project.select import select_images
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.write import StoreFactory
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.slides.tissue import find_tissue
from midog_qupath.wording import counted


@dataclass(frozen=True)
class AnnotateOptions:
    """What to search and how to write it.

    ``images``: name patterns, none for all. ``regions``: only inside annotations of this class.
    ``within``: only inside the areas of this GeoJSON file. ``keep``: leave detections of earlier runs.
    ``threshold``: mitosis probability instead of the model's own. ``mpp``: microns per pixel of images
    whose pixel size nobody knows. ``force``: images too coarse for mitoses too. ``skip_existing``: leave
    images alone that a finished run of the same model and threshold has searched. ``heatmap``: also write
    probabilities as images. ``scheduler``: address of a Dask cluster that does the work. ``challenge``:
    write the MIDOG challenge's file too (one image), or a folder with one file an image. ``dry_run``: write
    nothing.
    """

    images: Sequence[str] = ()
    class_map: ClassMap = field(default_factory=ClassMap)
    regions: str | None = None
    within: Path | None = None
    sidecar_only: bool = False
    dry_run: bool = False
    keep: bool = False
    threshold: float | None = None
    mpp: float | None = None
    force: bool = False
    speed: Speed = field(default_factory=Speed)
    skip_existing: bool = False
    heatmap: bool = False
    scheduler: str | None = None
    challenge: Path | None = None


def plan_jobs(
    project: Project,
    store_factory: StoreFactory,
    options: AnnotateOptions,
    progress: Progress,
    bundle: Bundle,
) -> tuple[list[Job], dict[str, MidogError]]:
    """The images to search, and those that cannot be read; neither where all that were asked for are done.

    Raises
    ------
    ProjectError
        If no image fits the patterns, or none has an area that was asked for.
    """
    entries = select_images(project, options.images)
    if options.skip_existing:
        entries = _without_existing(project, entries, bundle, options, progress)
        if not entries:
            return [], {}
    within = area_of_file(options.within) if options.within else None
    jobs: list[Job] = []
    failed: dict[str, MidogError] = {}
    empty = 0
    with store_factory() as store, progress.task("opening", len(entries), "images") as advance:
        for entry in entries:
            try:
                job = _plan(entry, store, within, options)
            except MidogError as error:
                failed[entry.name] = error
            else:
                empty += job is None
                jobs += [job] if job else []
            advance(1)
    _require_areas(jobs, failed, empty, options, progress)
    return jobs, failed


def _without_existing(
    project: Project,
    entries: Sequence[ImageEntry],
    bundle: Bundle,
    options: AnnotateOptions,
    progress: Progress,
) -> tuple[ImageEntry, ...]:
    threshold = bundle.card.threshold if options.threshold is None else options.threshold
    existing = {
        image.entry_id
        for manifest in load_manifests(project)
        if (manifest.model_sha256, manifest.threshold) == (bundle.sha256, threshold) and not manifest.undone
        for image in manifest.images
        if image.state != "planned"
    }
    left = tuple(entry for entry in entries if entry.entry_id not in existing)
    if len(left) < len(entries):
        progress.note(
            f"Left alone, because this model has searched them: {counted(len(entries) - len(left), 'image')}."
        )
    return left


def _plan(
    entry: ImageEntry, store: ProjectStore, within: BaseGeometry | None, options: AnnotateOptions
) -> Job | None:
    with open_entry(entry) as slide:
        pixel = resolve_mpp(entry, slide, options.mpp, options.force)
        image = shapely.box(0, 0, slide.width, slide.height)
        cell = cell_side(entry)
        area = image
        if within is not None:
            area = shapely.intersection(image, within)
        elif options.regions is not None:
            area = shapely.intersection(image, union_of_areas(store.read(entry), options.regions))
        tissue = find_tissue(slide, pixel.mpp) if area is image and cell is None else None
    if area.is_empty or area.area == 0:
        return None
    return Job(entry, pixel, area, area if tissue is None else tissue, cell, tissue)


def _require_areas(
    jobs: Sequence[Job],
    failed: Mapping[str, MidogError],
    empty: int,
    options: AnnotateOptions,
    progress: Progress,
) -> None:
    coarse = [job.entry.name for job in jobs if job.pixel.coarse]
    if coarse:
        progress.warn(
            f"Coarser than 0.35 µm per pixel, figures may be missed: {', '.join(coarse)}. "
            "The result is marked."
        )
    if empty and jobs:
        progress.note(f"Left alone, because nothing in them is to be searched: {counted(empty, 'image')}.")
    if empty and not jobs and not failed:
        where = f"annotation of class {options.regions}" if options.regions else f"area of {options.within}"
        raise ProjectError(f"No image has an {where}.", "Draw one, save in QuPath, and run again.")
    if failed and not jobs:
        require_some((), failed)


def require_some(results: Sequence[object], unreadable: Mapping[str, MidogError]) -> None:
    """Raise SlideError where every image failed."""
    if not results and unreadable:
        raise none_worked(SlideError, "searched", unreadable)
