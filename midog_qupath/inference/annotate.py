"""``annotate`` on a project: plan the images, search them, and hand everything to the writer at the end.

Each image's detections are in its GeoJSON file as soon as it is searched; the project itself is touched
only when all images are done.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import midog_qupath
from midog_qupath.detection import Detection
from midog_qupath.errors import MidogError, ModelError
from midog_qupath.files import sha256
from midog_qupath.inference.adapt import Adapter, Look
from midog_qupath.inference.areas import Job
from midog_qupath.inference.challenge_files import figures_file, write_detections_mm
from midog_qupath.inference.detect import Runtime
from midog_qupath.inference.device import device_name, network_device
from midog_qupath.inference.jobs import AnnotateOptions, plan_jobs, require_some
from midog_qupath.inference.resume import Unfinished
from midog_qupath.inference.search import LocalSearcher, Searcher
from midog_qupath.inference.speed import PROBE_PX, probe_batch
from midog_qupath.learning.versions import software_versions
from midog_qupath.models.bundle import Bundle
from midog_qupath.progress import Progress
from midog_qupath.project.cases import image_domain
from midog_qupath.project.disk import writing
from midog_qupath.project.geojson import write_features
from midog_qupath.project.model import Project
from midog_qupath.project.results import ImageResult, RunReport
from midog_qupath.project.run import RunInfo, as_path_objects, class_of, new_run
from midog_qupath.project.table import write_run_table
from midog_qupath.project.write import StoreFactory, preview_detections, write_detections
from midog_qupath.units import WORKING_MPP


@dataclass(frozen=True)
class AnnotateReport:
    """What a run found and where it went. ``unreadable``: image name -> why it was not searched.

    ``threshold``, ``atypical_threshold``: the probabilities (0..1) from which a candidate is a mitotic figure
    and a mitotic figure atypical; the latter None for a model that was not taught the types.

    Where all images were searched before and are to be skipped, there was no run: its name is empty.
    """

    run: RunReport
    jobs: tuple[Job, ...]
    found: Mapping[str, int]
    sidecars: Path
    options: AnnotateOptions
    unreadable: Mapping[str, MidogError]
    profile: Mapping[str, object]
    threshold: float
    atypical_threshold: float | None

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
            "threshold": self.threshold,
            "atypical_threshold": self.atypical_threshold,
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
    began = time.perf_counter()
    _require_resolution(bundle, model)
    jobs, unreadable = plan_jobs(project, store_factory, options, progress, bundle)
    if not jobs and not unreadable:
        nothing, limits = RunReport(run="", store="", images=(), backup=None), _thresholds(bundle, options)
        return AnnotateReport(nothing, (), {}, project.ours / "detections", options, {}, {}, *limits)
    unfinished = Unfinished.of(project, _asked(bundle, options), progress.warn)
    if options.dry_run:
        unfinished = Unfinished(None, progress.warn)
    if unfinished.begun:
        progress.note("Going on where a run of the same command was interrupted.")
    if options.challenge is not None and not options.dry_run:
        figures_file(options.challenge, "", len(jobs))
    runtime, batch, run = _prepare(project, bundle, model, options, jobs, unfinished)
    output = _Output(project.ours / "detections" / run.run, run, options)
    output.begin()
    heatmaps = output.folder if options.heatmap and not options.dry_run else None
    candidates = options.challenge is not None
    local = LocalSearcher(bundle, runtime, run.threshold, unfinished, heatmaps, candidates)
    results = _search(_searcher(local, model, options, batch), jobs, bundle, unreadable, progress, output)
    require_some(results, unreadable)
    with runtime.stages.stage("writing"):
        report = _write(project, store_factory, results, run, options, progress)
    unfinished.done()
    done = {result.entry.entry_id for result in results}
    searched = tuple(job for job in jobs if job.entry.entry_id in done)
    return AnnotateReport(
        run=report,
        jobs=searched,
        found=_count(results, run),
        sidecars=output.folder,
        options=options,
        unreadable=unreadable,
        profile=_profile(runtime, bundle, options, batch, searched, time.perf_counter() - began),
        threshold=run.threshold,
        atypical_threshold=run.atypical_threshold,
    )


def _require_resolution(bundle: Bundle, model: Path) -> None:
    if abs(bundle.card.mpp - WORKING_MPP) > 1e-6:
        raise ModelError(
            f"{model} was made for {bundle.card.mpp:g} µm per pixel, this version works at {WORKING_MPP:g}.",
            "Give another model by --model, or train one.",
        )


@dataclass(frozen=True)
class _Output:
    """Where each image's result goes as soon as it is there; nowhere in a dry run."""

    folder: Path
    run: RunInfo
    options: AnnotateOptions

    def begin(self) -> None:
        if not self.options.dry_run:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)

    def take(self, job: Job, found: list[Detection]) -> ImageResult:
        """The detections among the candidates; the challenge's file holds those below the threshold too."""
        threshold = self.run.threshold
        if self.options.challenge is not None and not self.options.dry_run:
            path = figures_file(self.options.challenge, job.entry.stem, 1)
            write_detections_mm(path, found, job.pixel.mpp, threshold)
        kept = [detection for detection in found if detection.mitosis_probability >= threshold]
        result = ImageResult(job.entry, kept, job.area, job.pixel.mpp)
        if not self.options.dry_run:
            _write_sidecar(self.folder, result, self.run)
        return result


def _write(
    project: Project,
    store_factory: StoreFactory,
    results: Sequence[ImageResult],
    run: RunInfo,
    options: AnnotateOptions,
    progress: Progress,
) -> RunReport:
    if options.dry_run:
        return preview_detections(project, store_factory, results, run, keep=options.keep)
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
    return report


def _asked(bundle: Bundle, options: AnnotateOptions) -> dict[str, object]:
    """What must be the same for a run to go on where another was interrupted."""
    speed = options.speed
    return {
        "version": midog_qupath.__version__,
        "model": bundle.sha256,
        "precision": speed.resolved(bundle),
        "tta": speed.tta,
        "batch": speed.batch,
        "compiled": sha256(speed.compiled) if speed.compiled else None,
        "compile": speed.compile,
        "images": list(options.images),
        "classes": str(options.class_map),
        "regions": options.regions,
        "within": sha256(options.within) if options.within else None,
        "threshold": options.threshold,
        "mpp": options.mpp,
        "heatmap": options.heatmap,
        "challenge": options.challenge is not None,
    }


def _prepare(
    project: Project,
    bundle: Bundle,
    model: Path,
    options: AnnotateOptions,
    jobs: Sequence[Job],
    unfinished: Unfinished,
) -> tuple[Runtime, int | None, RunInfo]:
    batch, speed = options.speed.batch, options.speed
    pixels = sum(job.mm2 for job in jobs) * 1e6 / bundle.card.mpp**2
    if batch is None and pixels > PROBE_PX and not unfinished.begun and options.scheduler is None:
        batch = probe_batch(bundle, speed.segmenter(bundle))
    run, batch = unfinished.begin(_new_run(project, bundle, model, options), batch)
    return speed.runtime(bundle, batch), batch, run


def _searcher(local: LocalSearcher, model: Path, options: AnnotateOptions, batch: int | None) -> Searcher:
    if options.scheduler is None:
        return local
    from midog_qupath.inference.cluster import ClusterSearcher, Order

    order = Order(
        model=str(model.resolve()),
        model_sha256=local.bundle.sha256,
        device=network_device(local.bundle).type,
        speed=options.speed,
        batch=batch,
        threshold=local.threshold,
        heatmaps=local.heatmaps,
        candidates=local.candidates,
    )
    return ClusterSearcher(options.scheduler, order, local.unfinished)


def _search(
    searcher: Searcher,
    jobs: Sequence[Job],
    bundle: Bundle,
    unreadable: dict[str, MidogError],
    progress: Progress,
    output: _Output,
) -> list[ImageResult]:
    """Search the jobs that can be read. Images of one domain share what the model sees of them first."""
    looks: dict[str, Look] = {}
    for job, look in searcher.looks(jobs, progress):
        if isinstance(look, MidogError):
            unreadable[job.entry.name] = look
        else:
            looks[job.entry.entry_id] = look
    ready = [job for job in jobs if job.entry.entry_id in looks]
    adapter = Adapter(bundle, looks, {job.entry.entry_id: image_domain(job.entry) for job in ready})
    results: list[ImageResult] = []
    for job, found in searcher.search(ready, adapter, progress):
        if isinstance(found, MidogError):
            unreadable[job.entry.name] = found
        else:
            results.append(output.take(job, found))
    return results


def _profile(
    runtime: Runtime,
    bundle: Bundle,
    options: AnnotateOptions,
    batch: int | None,
    jobs: Sequence[Job],
    seconds: float,
) -> dict[str, object]:
    mm2 = sum(job.mm2 for job in jobs)
    return {
        "device": device_name(network_device(bundle).type),
        "precision": options.speed.resolved(bundle),
        "batch": batch,
        "images": len(jobs),
        "mm2": mm2,
        "seconds": seconds,
        "seconds_per_mm2": seconds / mm2 if mm2 else None,
        "stages": dict(runtime.stages.seconds),
        "reading_in_processes": runtime.readers.seconds,
    }


def _thresholds(bundle: Bundle, options: AnnotateOptions) -> tuple[float, float | None]:
    """From which probabilities on a candidate is a mitotic figure, and one of those atypical."""
    mitosis = bundle.card.threshold if options.threshold is None else options.threshold
    return mitosis, bundle.card.atypical_threshold if bundle.card.has_atypical else None


def _new_run(project: Project, bundle: Bundle, model: Path, options: AnnotateOptions) -> RunInfo:
    resolved = model.resolve()
    inside = resolved.is_relative_to(project.folder)
    threshold, atypical_threshold = _thresholds(bundle, options)
    return new_run(
        project,
        now=datetime.now().astimezone(),
        # Relative where it can be: a project is passed on, and the path of one computer means nothing there.
        model=(resolved.relative_to(project.folder) if inside else resolved).as_posix(),
        model_sha256=bundle.sha256,
        threshold=threshold,
        atypical_threshold=atypical_threshold,
        class_map=options.class_map,
        software=software_versions(),
        calibrated=bundle.card.operating_point.mitosis_calibration is not None,
    )


def _write_sidecar(folder: Path, result: ImageResult, run: RunInfo) -> None:
    # The writer writes the same file again: this one is the record of a run that is cut short.
    path = folder / f"{result.entry.stem}.geojson"
    with writing(path):
        write_features(path, as_path_objects(result.detections, run, result.entry.entry_id))


def _count(results: Sequence[ImageResult], run: RunInfo) -> dict[str, int]:
    classes = Counter(class_of(found, run).name for result in results for found in result.detections)
    return dict(sorted(classes.items()))
