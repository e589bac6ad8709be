"""``annotate`` on a project: plan the images, search them, and hand everything to the writer at the end.

Each image's detections are in its GeoJSON file as soon as it is searched; the project itself is touched
only when all images are done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath.detection import Detection
from midog_qupath.errors import MidogError, ProjectError, SlideError
from midog_qupath.inference.adapt import Adapter, Look, look_at
from midog_qupath.inference.areas import Job, area_of_file, cell_side, union_of_areas
from midog_qupath.inference.challenge_files import figures_file, write_detections_mm
from midog_qupath.inference.detect import detect
from midog_qupath.inference.forward import CANDIDATE_FLOOR
from midog_qupath.learning.versions import software_versions
from midog_qupath.models.bundle import Bundle
from midog_qupath.progress import Progress
from midog_qupath.project.cases import image_domain
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.disk import writing
from midog_qupath.project.geojson import write_features
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.project.results import ImageResult, RunReport
from midog_qupath.project.run import RunInfo, as_path_object, new_run
from midog_qupath.project.select import select_images
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.table import write_run_table
from midog_qupath.project.write import StoreFactory, preview_detections, write_detections
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.slides.tissue import find_tissue


@dataclass(frozen=True)
class AnnotateOptions:
    """What to search and how to write it.

    ``images``: name patterns, none for all. ``regions``: only inside annotations of this class.
    ``within``: only inside the areas of this GeoJSON file. ``keep``: leave detections of earlier runs.
    ``threshold``: mitosis probability instead of the model's own. ``mpp``: microns per pixel of images
    whose pixel size nobody knows. ``force``: images too coarse for mitoses too. ``challenge``: write the
    MIDOG challenge's file too (one image), or a folder with one file an image. ``dry_run``: write nothing.
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
    challenge: Path | None = None


@dataclass(frozen=True)
class AnnotateReport:
    """What a run found and where it went. ``unreadable``: image name -> why it was not searched."""

    run: RunReport
    jobs: tuple[Job, ...]
    found: Mapping[str, int]
    sidecars: Path
    options: AnnotateOptions
    unreadable: Mapping[str, MidogError]

    @property
    def failed(self) -> dict[str, MidogError]:
        """Images that were not searched, or whose detections stand in the GeoJSON file only."""
        unwritten = {image.name: image.error for image in self.run.failed if image.error is not None}
        return {**self.unreadable, **unwritten}

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        reports = self.run.images
        return {
            "run": self.run.run,
            "store": self.run.store,
            "images": len(self.jobs),
            "mm2": sum(job.mm2 for job in self.jobs),
            "found": dict(self.found),
            "added": sum(image.added for image in reports),
            "removed": sum(image.removed for image in reports),
            "left_out": sum(image.near_ours + image.near_deleted for image in reports),
            "per_image": [
                {
                    "name": image.name,
                    "added": image.added,
                    "removed": image.removed,
                    "touched": image.touched,
                    "near_ours": image.near_ours,
                    "near_deleted": image.near_deleted,
                }
                for image in reports
            ],
            "sidecar_only": self.options.sidecar_only,
            "dry_run": self.options.dry_run,
            "sidecars": str(self.sidecars),
            "backup": str(self.run.backup) if self.run.backup else None,
            "coarse": [job.entry.name for job in self.jobs if job.pixel.coarse],
            "failed": {name: str(error) for name, error in self.failed.items()},
        }


def annotate_project(
    project: Project,
    store_factory: StoreFactory,
    bundle: Bundle,
    model: Path,
    options: AnnotateOptions,
    progress: Progress,
) -> AnnotateReport:
    """Search the images of a project and write what is found.

    An image that cannot be read or written is reported and the others go on. Until all are searched the
    project is only read.

    Raises
    ------
    MidogError
        If no image can be searched, or nothing can be written.
    """
    jobs, unreadable = plan_jobs(project, store_factory, options, progress)
    run = _new_run(project, bundle, model, options)
    sidecars = project.ours / "detections" / run.run
    if not options.dry_run:
        with writing(sidecars):
            sidecars.mkdir(parents=True, exist_ok=True)
    results: list[ImageResult] = []
    challenge = None if options.dry_run else options.challenge
    if challenge is not None:
        figures_file(challenge, "", len(jobs))
    adapter = _used_to(bundle, jobs, unreadable, progress)
    jobs = [job for job in jobs if job.entry.name not in unreadable]
    with progress.task("searching", round(sum(job.mm2 for job in jobs), 3), "mm²") as advance:
        for job in jobs:
            try:
                detections = _search(job, adapter, run.threshold, challenge, advance)
            except SlideError as error:
                unreadable[job.entry.name] = error
                continue
            results.append(ImageResult(job.entry, detections, job.area, job.pixel.mpp))
            if not options.dry_run:
                _write_sidecar(sidecars, results[-1], run)
    _require_some(results, unreadable)
    if options.dry_run:
        report = preview_detections(project, store_factory, results, run, keep=options.keep)
    else:
        report = write_detections(
            project,
            store_factory,
            results,
            run,
            keep=options.keep,
            sidecar_only=options.sidecar_only,
            progress=progress,
        )
        write_run_table(project, report.run)
    done = {result.entry.entry_id for result in results}
    return AnnotateReport(
        run=report,
        jobs=tuple(job for job in jobs if job.entry.entry_id in done),
        found=_count(results, run),
        sidecars=sidecars,
        options=options,
        unreadable=unreadable,
    )


def plan_jobs(
    project: Project, store_factory: StoreFactory, options: AnnotateOptions, progress: Progress
) -> tuple[list[Job], dict[str, MidogError]]:
    """The images to search, and those that cannot be read.

    Raises
    ------
    ProjectError
        If no image fits the patterns, or none has an area that was asked for.
    """
    entries = select_images(project, options.images)
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
        searched = area
        if area is image and cell is None:
            searched = find_tissue(slide, pixel.mpp)
    if area.is_empty or area.area == 0:
        return None
    return Job(entry, pixel, area, searched, cell)


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
        progress.note(f"Left alone, because nothing in them is to be searched: {empty} images.")
    if empty and not jobs and not failed:
        where = f"annotation of class {options.regions}" if options.regions else f"area of {options.within}"
        raise ProjectError(f"No image has an {where}.", "Draw one, save in QuPath, and run again.")
    if failed and not jobs:
        _require_some((), failed)


def _require_some(results: Sequence[ImageResult], unreadable: Mapping[str, MidogError]) -> None:
    if not results and unreadable:
        first = next(iter(unreadable.values()))
        raise SlideError(
            f"None of {len(unreadable)} images could be searched: {first.what}", first.remedy
        ) from first


def _new_run(project: Project, bundle: Bundle, model: Path, options: AnnotateOptions) -> RunInfo:
    resolved = model.resolve()
    inside = resolved.is_relative_to(project.folder)
    return new_run(
        project,
        now=datetime.now().astimezone(),
        # Relative where it can be: a project is passed on, and the path of one computer means nothing there.
        model=(resolved.relative_to(project.folder) if inside else resolved).as_posix(),
        model_sha256=bundle.sha256,
        threshold=bundle.card.threshold if options.threshold is None else options.threshold,
        atypical_threshold=bundle.card.atypical_threshold if bundle.card.has_atypical else None,
        class_map=options.class_map,
        software=software_versions(),
        calibrated=bundle.card.operating_point.mitosis_calibration is not None,
    )


def _used_to(
    bundle: Bundle, jobs: Sequence[Job], unreadable: dict[str, MidogError], progress: Progress
) -> Adapter:
    """The model, used to each image under its entry's id; images of one domain share what they show."""
    looks: dict[str, Look] = {}
    with progress.task("looking at the stain", len(jobs), "images") as advance:
        for job in jobs:
            try:
                with open_entry(job.entry) as slide:
                    looks[job.entry.entry_id] = look_at(bundle, slide, job.pixel.mpp, job.cell_px)
            except SlideError as error:
                unreadable[job.entry.name] = error
            advance(1)
    return Adapter(bundle, looks, {job.entry.entry_id: image_domain(job.entry) for job in jobs})


def _search(
    job: Job, adapter: Adapter, threshold: float, challenge: Path | None, advance: Callable[[float], None]
) -> list[Detection]:
    """Detections from ``threshold`` on; the challenge's file holds the candidates below it too."""
    bundle = adapter.bundle_for(job.entry.entry_id)
    if challenge is None:
        return _detect(job, bundle, threshold, advance)
    lowest = min(threshold, bundle.calibrated_mitosis(CANDIDATE_FLOOR))
    found = _detect(job, bundle, lowest, advance)
    path = figures_file(challenge, job.entry.stem, 1)
    write_detections_mm(path, found, job.pixel.mpp, threshold)
    return [detection for detection in found if detection.mitosis_probability >= threshold]


def _detect(job: Job, bundle: Bundle, threshold: float, advance: Callable[[float], None]) -> list[Detection]:
    mm2 = job.mm2
    with open_entry(job.entry) as slide:
        return detect(
            slide,
            job.pixel.mpp,
            bundle,
            job.searched,
            minimum_probability=threshold,
            cell_px=job.cell_px,
            advance=lambda share: advance(share * mm2),
        )


def _write_sidecar(folder: Path, result: ImageResult, run: RunInfo) -> None:
    # The writer writes the same file again: this one is the record of a run that is cut short.
    path = folder / f"{result.entry.stem}.geojson"
    with writing(path):
        write_features(path, list(_objects(result, run)))


def _objects(result: ImageResult, run: RunInfo) -> Iterator[Any]:
    for index, detection in enumerate(result.detections):
        yield as_path_object(detection, run, result.entry.entry_id, index)


def _count(results: Sequence[ImageResult], run: RunInfo) -> dict[str, int]:
    classes = Counter(
        thing.class_name for result in results for thing in _objects(result, run) if thing.class_name
    )
    return dict(sorted(classes.items()))
