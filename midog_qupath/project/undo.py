"""A run taken out of a project again: its untouched detections go, those that it replaced come back.

What a person drew, changed or reviewed stays, and nothing comes back where a person deleted. In this order:
lock; which run, and whether a later one stands on it; backup; then image by image: plan, manifest, write,
read back, manifest. Cut short anywhere, the same command finishes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from midog_qupath.errors import MidogError, SafetyError, StoreError
from midog_qupath.progress import Progress
from midog_qupath.project.alone import alone
from midog_qupath.project.backup import back_up, now_as_time
from midog_qupath.project.editor import Editor
from midog_qupath.project.imported import with_imports
from midog_qupath.project.manifest import ImageRecord, RunManifest, load_manifests, save_manifest
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.ours import replaced_by
from midog_qupath.project.record import recorded_objects
from midog_qupath.project.stores.base import Edit, ProjectStore
from midog_qupath.project.undo_plan import UndoPlan, comes_back, plan_undo
from midog_qupath.project.write import StoreFactory


@dataclass(frozen=True)
class UndoneImage:
    """What became of one image; ``error`` says why it is as it was.

    ``removed`` detections of the run went, ``put_back`` older ones came back, ``kept`` of the run stay
    because a person touched them, ``left_out`` older ones did not come back beside what a person kept or
    deleted.
    """

    name: str
    removed: int = 0
    put_back: int = 0
    kept: int = 0
    left_out: int = 0
    error: MidogError | None = None


@dataclass(frozen=True)
class UndoReport:
    """What became of a run; ``backup`` is None where the project itself was not to be changed."""

    run: str
    store: str
    images: tuple[UndoneImage, ...]
    backup: Path | None

    @property
    def failed(self) -> tuple[UndoneImage, ...]:
        """The images that could not be written."""
        return tuple(image for image in self.images if image.error is not None)


def run_to_undo(project: Project, run: str | None) -> RunManifest:
    """The manifest of ``run``, or of the newest run that still has something to undo.

    Raises SafetyError where there is none, or it is undone already.
    """
    manifests = load_manifests(project)
    if run is not None:
        found = next((manifest for manifest in manifests if manifest.run == run), None)
        if found is None:
            known = ", ".join(manifest.run for manifest in manifests) or "none"
            raise SafetyError(f"There is no run {run} in {project.path}.", f"Give one of: {known}.")
        if not _unfinished(found):
            raise SafetyError(f"Run {run} is undone, or never came to an image.", "There is nothing to do.")
        return found
    waiting = [manifest for manifest in manifests if _unfinished(manifest)]
    if not waiting:
        raise SafetyError(f"No run in {project.path} is left to undo.", "There is nothing to do.")
    return waiting[-1]


def store_to_undo(run: RunManifest, asked: str | None) -> str | None:
    """The store that takes a run out: the one asked for, else the sidecar for what only that has.

    None: whichever is best.
    """
    return "sidecar" if asked is None and run.store == "sidecar" else asked


def undo_run(
    project: Project, store_factory: StoreFactory, run: str | None, progress: Progress
) -> UndoReport:
    """Take a run (None: the newest that is not undone) out of a project.

    ``store_factory`` opens a store of the project; it is called twice: what one instance wrote, another
    reads back. An image that cannot be written is reported and the others go on; running it again
    goes on with those.

    Raises SafetyError, before the project is changed, when there is no such run, a later one replaced its
    detections, somebody else is writing, or the disk refuses; StoreError where the store cannot be opened.
    """
    with alone(project, progress), ExitStack() as stores:
        manifest = run_to_undo(project, run)
        writer, reader = (stores.enter_context(store_factory()) for _ in range(2))
        undo = _Undo(project, manifest, progress)
        entries = [entry for entry in project.images if undo.waits(entry)]
        ready: list[tuple[ImageEntry, str]] = []
        reports = []
        for entry in entries:
            try:
                fingerprint = reader.fingerprint(entry)
                undo.learn_of_imports(entry, reader)
                undo.require_topmost(entry, reader.read(entry))
                ready.append((entry, fingerprint))
            except StoreError as error:
                reports.append(UndoneImage(entry.name, error=error))
        backup = None
        if ready and writer.writes_project:
            backup = back_up(
                project, [entry for entry, _ in ready], now_as_time(), f"before undoing {manifest.run}"
            )
        undo.begin()
        editor = Editor(project, writer, reader, backup)
        with progress.task("Undoing", total=len(ready), unit="images") as advance:
            for entry, fingerprint in ready:
                reports.append(undo.image(entry, fingerprint, editor))
                advance(1)
        return UndoReport(manifest.run, writer.name, tuple(reports), backup)


def _unfinished(manifest: RunManifest) -> bool:
    return any(image.state != "undone" for image in manifest.images)


class _Undo:
    """The manifest of the run that is being undone, on disk at every moment."""

    def __init__(self, project: Project, manifest: RunManifest, progress: Progress) -> None:
        self._project = project
        self._manifest = manifest
        self._progress = progress
        self._others = tuple(other for other in load_manifests(project) if other.run != manifest.run)

    def waits(self, entry: ImageEntry) -> bool:
        """Whether the run is still to be taken out of an image."""
        record = self._manifest.image(entry.entry_id)
        return record is not None and record.state != "undone"

    def learn_of_imports(self, entry: ImageEntry, store: ProjectStore) -> None:
        """From here on a run that a script took into the image counts as written there."""
        *others, manifest = with_imports((*self._others, self._manifest), entry, store)
        self._others, self._manifest = tuple(others), manifest

    def require_topmost(self, entry: ImageEntry, objects: Sequence[PathObject]) -> None:
        """SafetyError where a later run replaced detections of this one: they would have to go first."""
        manifests, run = (*self._others, self._manifest), self._manifest.run
        later = replaced_by(objects, manifests, entry.entry_id, run)
        if later is not None:
            raise SafetyError(
                f"Run {later} replaced detections of run {run} in image '{entry.name}'.",
                f"Undo run {later} first.",
            )

    def begin(self) -> None:
        """Say that the run is being undone: nothing imports its sidecars from now on."""
        known = {entry.entry_id for entry in self._project.images}
        gone = [image for image in self._manifest.images if image.entry_id not in known]
        for record in gone:
            self._manifest = self._manifest.with_image(record.model_copy(update={"state": "undone"}))
        self._save(self._manifest.model_copy(update={"undone": True}))

    def image(self, entry: ImageEntry, fingerprint: str, editor: Editor) -> UndoneImage:
        """Take the run out of one image."""
        try:
            before = editor.read(entry, fingerprint)
            planned = self._plan(entry, before)
            self._put(entry, state="undoing", taken_back=tuple(sorted(planned.taken_back)))
            editor.apply(entry, before, Edit(planned.remove, planned.add, fingerprint))
        except (StoreError, SafetyError) as error:
            return UndoneImage(entry.name, error=error)
        self._put(entry, state="undone")
        return UndoneImage(entry.name, len(planned.remove), len(planned.add), planned.kept, planned.left_out)

    def _plan(self, entry: ImageEntry, objects: Sequence[PathObject]) -> UndoPlan:
        record = self._record(entry)
        wanted = comes_back(objects, record)
        older = recorded_objects(self._project, self._others, entry, wanted)
        if lost := wanted - older.keys():
            raise StoreError(
                f"{len(lost)} detections that run {self._manifest.run} replaced are in no record.",
                "`midog-qupath backups` lists the states to which the image can be put back.",
            )
        manifests = (*self._others, self._manifest)
        return plan_undo(objects, manifests, self._manifest, record, [older[one] for one in sorted(wanted)])

    def _record(self, entry: ImageEntry) -> ImageRecord:
        record = self._manifest.image(entry.entry_id)
        if record is None:
            raise ValueError(f"run {self._manifest.run} did not search image {entry.entry_id}")
        return record

    def _put(self, entry: ImageEntry, **changes: object) -> None:
        record = self._record(entry).model_copy(update=changes)
        self._save(self._manifest.with_image(record))

    def _save(self, manifest: RunManifest) -> None:
        self._manifest = manifest
        save_manifest(self._project, manifest)
