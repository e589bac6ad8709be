"""Labels into a project, or into the GeoJSON files beside it.

In the same order as detections: lock, plan, backup, classes; then image by image: write, read back, put
back where that fails. Image metadata come last and only for images whose labels are in: an image said to be
labelled as a whole, without its labels, would teach that there is nothing in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from midog_qupath.errors import MidogError, StoreError
from midog_qupath.progress import Progress
from midog_qupath.project.alone import alone
from midog_qupath.project.backup import back_up, now_as_time
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.editor import Editor
from midog_qupath.project.labels.given import GivenLabels
from midog_qupath.project.labels.past import ImportRecord, imported_labels, save_import
from midog_qupath.project.labels.plan import ImagePlan, ImportPlan, plan_import
from midog_qupath.project.labels.sidecar import append_labels, write_table
from midog_qupath.project.labels.tables import ImageFacts
from midog_qupath.project.lock import project_lock
from midog_qupath.project.metadata import set_metadata
from midog_qupath.project.model import ImageEntry, PathClass, PathObject, Project
from midog_qupath.project.stores.base import Edit, ProjectStore
from midog_qupath.project.stores.sidecar import read_annotations

StoreFactory = Callable[[], ProjectStore]


@dataclass(frozen=True)
class ImportReport:
    """What became of an import. ``errors``: why images stayed as they were, by entry id.

    ``backup`` holds the project as it was; ``table`` is the image table beside the ground truth, where the
    project itself was left alone.
    """

    plan: ImportPlan
    errors: Mapping[str, str] = field(default_factory=dict)
    backup: Path | None = None
    table: Path | None = None


@dataclass(frozen=True)
class LabelSource:
    """What is to be imported, and what it means. ``whole``: see :func:`~.plan.plan_import`.

    ``bring_back``: also labels that an earlier import put into the project and that a person deleted since.
    """

    given: GivenLabels
    facts: Sequence[ImageFacts] = ()
    class_map: ClassMap = field(default_factory=ClassMap)
    whole: bool = False
    bring_back: bool = False


def import_into_project(
    project: Project,
    store_factory: StoreFactory,
    source: LabelSource,
    progress: Progress,
    dry_run: bool = False,
) -> ImportReport:
    """Put labels as annotations into the images of a project, and facts into their metadata.

    An image that cannot be read or written is reported and the others go on. ``dry_run`` only plans.

    Raises
    ------
    SafetyError
        Before anything is changed, when somebody else is writing or the folder cannot be written.
    StoreError
        If the store cannot be opened.
    """
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(alone(project, progress))
        store = stack.enter_context(store_factory())
        seen: dict[str, str] = {}

        def read(entry: ImageEntry) -> Sequence[PathObject]:
            seen[entry.entry_id] = store.fingerprint(entry)
            return store.read(entry)

        past = {} if source.bring_back else imported_labels(project)
        plan = plan_import(project, source.given, source.facts, read, source.class_map, source.whole, past)
        errors = _errors(plan)
        changed = [image for image in plan.images if image.error is None and (image.add or image.metadata)]
        if dry_run or not changed:
            return ImportReport(plan, errors)
        entries = [image.entry for image in changed if image.add]
        backup = back_up(project, entries, now_as_time(), f"before importing {source.given.source}")
        reader = stack.enter_context(store_factory())
        writer = _Writer(project, store, reader, seen, backup, source.given.source)
        errors |= writer.write(changed, progress)
        written = [image for image in changed if image.entry.entry_id not in errors]
        set_metadata(project, {image.entry.entry_id: image.metadata for image in written})
    return ImportReport(plan, errors, backup)


@dataclass(frozen=True)
class _Writer:
    project: Project
    store: ProjectStore
    reader: ProjectStore
    seen: Mapping[str, str]
    backup: Path
    source: str

    def write(self, images: Sequence[ImagePlan], progress: Progress) -> dict[str, str]:
        """Write images one by one; why some could not be, by entry id."""
        with_labels = [image for image in images if image.add]
        try:
            self.store.ensure_classes(_classes(with_labels))
        except StoreError as error:
            return {image.entry.entry_id: str(error) for image in images}
        errors: dict[str, str] = {}
        written: dict[str, tuple[UUID, ...]] = {}
        try:
            with progress.task("Writing labels", total=len(with_labels), unit="images") as advance:
                for image in with_labels:
                    try:
                        self._write(image)
                    except MidogError as error:
                        errors[image.entry.entry_id] = str(error)
                    else:
                        written[image.entry.entry_id] = tuple(label.id for label in image.add if label.id)
                    advance(1)
        finally:
            # After the images: a label on record that never came in would be taken for one that was deleted.
            if written:
                save_import(
                    self.project, ImportRecord(time=self.backup.name, source=self.source, images=written)
                )
        return errors

    def _write(self, image: ImagePlan) -> None:
        entry, editor = image.entry, Editor(self.project, self.store, self.reader, self.backup)
        edit = Edit(frozenset(), (), self.seen[entry.entry_id], labels=image.add)
        editor.apply(entry, editor.read(entry, edit.expected), edit)


def import_beside_project(
    project: Project, folder: Path, source: LabelSource, progress: Progress, dry_run: bool = False
) -> ImportReport:
    """Put labels into the GeoJSON files of ``folder``, facts into its ``images.csv``; not into the project.

    Raises
    ------
    SafetyError
        When somebody else is writing, or the folder cannot be written.
    """

    def read(entry: ImageEntry) -> Sequence[PathObject]:
        return read_annotations(folder, entry)

    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(project_lock(project))
        plan = plan_import(project, source.given, source.facts, read, source.class_map, source.whole)
        errors = _errors(plan)
        if dry_run:
            return ImportReport(plan, errors)
        good = [image for image in plan.images if image.error is None]
        with progress.task("Writing labels", total=len(good), unit="images") as advance:
            for image in good:
                try:
                    append_labels(folder, image.entry, image.add)
                except MidogError as error:
                    errors[image.entry.entry_id] = str(error)
                advance(1)
        done = [image for image in good if image.entry.entry_id not in errors]
        table = write_table(folder, {image.entry.name: image.metadata for image in done})
    return ImportReport(plan, errors, table=table)


def _errors(plan: ImportPlan) -> dict[str, str]:
    return {image.entry.entry_id: str(image.error) for image in plan.images if image.error is not None}


def _classes(images: Sequence[ImagePlan]) -> list[PathClass]:
    classes = {new.path_class.name: new.path_class for image in images for new in image.add if new.path_class}
    return list(classes.values())
