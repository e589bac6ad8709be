"""The images of one run: planned, written, read back and, where that went wrong, put back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import shapely

from midog_qupath.errors import MidogError, SafetyError, StoreError
from midog_qupath.progress import Progress
from midog_qupath.project.backup import back_up, now_as_time
from midog_qupath.project.editor import Editor
from midog_qupath.project.imported import with_imports
from midog_qupath.project.journal import Journal, written_objects
from midog_qupath.project.manifest import ImageRecord
from midog_qupath.project.model import PathClass, PathObject, Project
from midog_qupath.project.ours import wiped_runs
from midog_qupath.project.plan import Plan, plan
from midog_qupath.project.results import ImageReport, Item, RunReport, image_report
from midog_qupath.project.stores.base import Edit, ProjectStore


class ImageWriter:
    """The images of one run, one after another: ``writer`` changes them, ``reader`` looks at them."""

    def __init__(
        self,
        project: Project,
        writer: ProjectStore,
        reader: ProjectStore,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._project = project
        self._writer = writer
        self._reader = reader
        self._journal = journal
        self._progress = progress

    def beside_project(self, items: Sequence[Item]) -> RunReport:
        """Leave the project alone; the manifest says what an import of the sidecars should do."""
        reports = []
        for item in items:
            try:
                planned = self._plan(item, self._reader.read(item.entry))
            except StoreError:
                # Nobody asked to change this image, so that it cannot be read is no failure.
                planned = None
            reports.append(self._left(item, planned))
        return self._report(reports, backup=None)

    def into_store(self, items: Sequence[Item]) -> RunReport:
        """Write every image that can be read; the others are reported."""
        ready, reports = self._preflight(items)
        backup = None
        if ready and self._writer.writes_project:
            entries = [item.entry for item, _ in ready]
            backup = back_up(self._project, entries, now_as_time(), f"before run {self._journal.run}")
        reports += self._write_all(ready, backup)
        return self._report(reports, backup)

    def _preflight(self, items: Sequence[Item]) -> tuple[list[tuple[Item, str]], list[ImageReport]]:
        ready, reports = [], []
        for item in items:
            try:
                fingerprint = self._reader.fingerprint(item.entry)
                self._reader.read(item.entry)
            except StoreError as error:
                reports.append(self._left(item, None, error))
            else:
                ready.append((item, fingerprint))
        return ready, reports

    def _write_all(self, ready: Sequence[tuple[Item, str]], backup: Path | None) -> list[ImageReport]:
        try:
            if self._writer.writes_project:
                self._writer.ensure_classes(_classes(item for item, _ in ready))
        except StoreError as error:
            return [self._left(item, None, error) for item, _ in ready]
        reports = []
        editor = Editor(self._project, self._writer, self._reader, backup)
        with self._progress.task("Writing detections", total=len(ready), unit="images") as advance:
            for item, fingerprint in ready:
                reports.append(self._write(item, fingerprint, editor))
                advance(1)
        return reports

    def _write(self, item: Item, fingerprint: str, editor: Editor) -> ImageReport:
        planned = None
        try:
            before = editor.read(item.entry, fingerprint)
            planned = self._plan(item, before)
            self._journal.begin(_record(self._project, item, planned), {found.id for found in before})
        except StoreError as error:
            return self._left(item, planned, error)
        try:
            editor.apply(item.entry, before, Edit(planned.remove, planned.add, fingerprint))
        except (StoreError, SafetyError) as error:
            return self._left(item, planned, error)
        state: Literal["written", "sidecar"] = "written" if self._writer.writes_project else "sidecar"
        self._journal.done(item.entry.entry_id, state)
        return image_report(item, planned, state)

    def _plan(self, item: Item, objects: Sequence[PathObject]) -> Plan:
        entry_id = item.entry.entry_id
        manifests = with_imports(self._journal.manifests, item.entry, self._reader)
        for run in wiped_runs(objects, manifests, entry_id):
            self._progress.warn(
                f"All detections of run {run} in image '{item.entry.name}' were deleted: none is written "
                f"there again. If QuPath saved over them, delete midog-qupath/runs/{run}.json and run again."
            )
        return plan(
            objects,
            manifests,
            item.new,
            entry_id=entry_id,
            area=item.result.area,
            mpp=item.result.mpp,
            keep=self._journal.keep,
        )

    def _left(self, item: Item, planned: Plan | None, error: MidogError | None = None) -> ImageReport:
        """An image that stays as it is: note it and, where that is a failure, say how to import."""
        self._journal.left(_record(self._project, item, planned))
        if error is not None:
            error = StoreError(
                f"Image '{item.entry.name}': {error.what}",
                f"{error.remedy} Its detections are in {item.sidecar}: "
                "import_detections.groovy brings them into QuPath.",
            )
        return replace(image_report(item, planned, "sidecar"), added=0, removed=0, error=error)

    def _report(self, reports: Sequence[ImageReport], backup: Path | None) -> RunReport:
        self._journal.finish()
        return RunReport(self._journal.run, self._writer.name, tuple(reports), backup)


def _classes(items: Iterable[Item]) -> list[PathClass]:
    classes = {new.path_class.name: new.path_class for item in items for new in item.new if new.path_class}
    return list(classes.values())


def _record(project: Project, item: Item, planned: Plan | None) -> ImageRecord:
    entry = item.entry
    return ImageRecord(
        entry_id=entry.entry_id,
        name=entry.name,
        stem=entry.stem,
        state="planned",
        mpp=item.result.mpp,
        area=shapely.to_wkt(item.result.area, rounding_precision=2),
        sidecar=item.sidecar.relative_to(project.ours).as_posix(),
        objects=written_objects(planned.add if planned else item.new),
        removed=tuple(sorted(planned.remove)) if planned else (),
    )
