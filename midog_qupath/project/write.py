"""Detections into a project, so that no person's object is ever at risk.

In this order: lock; GeoJSON sidecars of all images; backup; classes; then image by image: plan, manifest,
write, read back, manifest. Wherever it is cut short, people's objects are as they were, the results are in
the sidecars, and every object of ours in the project is in the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from midog_qupath.collector import paused
from midog_qupath.errors import StoreError
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.alone import alone
from midog_qupath.project.disk import writing
from midog_qupath.project.geojson import write_features
from midog_qupath.project.image_writer import ImageWriter
from midog_qupath.project.imported import with_imports
from midog_qupath.project.journal import Journal
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import Project
from midog_qupath.project.plan import plan
from midog_qupath.project.results import ImageResult, Item, RunReport, image_report
from midog_qupath.project.run import RunInfo, as_path_objects
from midog_qupath.project.stores.base import ProjectStore

StoreFactory = Callable[[], ProjectStore]


@paused()
def write_detections(
    project: Project,
    store_factory: StoreFactory,
    results: Sequence[ImageResult],
    run: RunInfo,
    *,
    keep: bool,
    sidecar_only: bool,
    progress: Progress,
) -> RunReport:
    """Put the detections of a run into sidecars and, unless ``sidecar_only``, into the project.

    ``store_factory`` opens a store of the project; it is called twice: what one instance wrote, another
    reads back. ``keep`` leaves all detections of earlier runs where they are. An image that cannot be
    written is reported (:attr:`RunReport.failed`) and the others go on. A run that was cut short can be
    written again with the same ``run``: the ids are the same.

    Raises SafetyError, before the project is changed, when somebody else is writing, the folder is
    read-only, the disk is full or a manifest is damaged; StoreError where the store cannot be opened.
    """
    with alone(project, SILENT if sidecar_only else progress), ExitStack() as stores:
        items = [_write_sidecar(_item(project, result, run)) for result in results]
        writer = stores.enter_context(store_factory())
        journal = Journal(project, run, writer.name, keep)
        if sidecar_only:
            return ImageWriter(project, writer, writer, journal, progress).beside_project(items)
        reader = stores.enter_context(store_factory())
        return ImageWriter(project, writer, reader, journal, progress).into_store(items)


def preview_detections(
    project: Project, store_factory: StoreFactory, results: Sequence[ImageResult], run: RunInfo, *, keep: bool
) -> RunReport:
    """What :func:`write_detections` would do now; nothing is written.

    An image that cannot be read is reported (:attr:`RunReport.failed`). Raises SafetyError when a manifest is
    damaged, StoreError where the store cannot be opened.
    """
    manifests = load_manifests(project)
    reports = []
    with store_factory() as store:
        for item in (_item(project, result, run) for result in results):
            entry, result = item.entry, item.result
            try:
                planned = plan(
                    store.read(entry),
                    with_imports(manifests, entry, store),
                    item.new,
                    entry_id=entry.entry_id,
                    area=result.area,
                    mpp=result.mpp,
                    keep=keep,
                )
            except StoreError as error:
                reports.append(replace(image_report(item, None, "planned"), error=error))
            else:
                reports.append(image_report(item, planned, "planned"))
        return RunReport(run.run, store.name, tuple(reports), backup=None)


def _item(project: Project, result: ImageResult, run: RunInfo) -> Item:
    entry = result.entry
    path = project.ours / "detections" / run.run / f"{entry.stem}.geojson"
    return Item(result, as_path_objects(result.detections, run, entry.entry_id), path)


def _write_sidecar(item: Item) -> Item:
    with writing(item.sidecar):
        write_features(item.sidecar, item.new)
    return item
