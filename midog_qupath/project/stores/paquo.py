"""Objects through QuPath itself, by way of paquo, in a process of its own."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from midog_qupath.errors import QuPathMissingError, SafetyError, StoreError
from midog_qupath.files import sha256
from midog_qupath.project.classes_file import ensure_classes
from midog_qupath.project.imported import imported_runs
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.paquo_check import (
    OLDEST_WITH_IDS,
    data_file,
    data_version,
    require_editable,
    require_unchanged,
    summary_count,
)
from midog_qupath.project.stores.paquo_guard import BACKUP, require_settled, restored_on_failure
from midog_qupath.project.stores.paquo_process import WorkerProcess
from midog_qupath.project.stores.paquo_wire import Row, decode, encode
from midog_qupath.project.verify import verify_unchanged

WORKER = "midog_qupath.project.stores.paquo_worker"


def find_qupath() -> Path | None:
    """Folder of the QuPath installation that paquo would use, or None.

    paquo's own search and settings (``PAQUO_QUPATH_DIR``, ``.paquo.toml``); no Java machine is started.
    """
    from paquo._config import _get_settings, to_kwargs
    from paquo.jpype_backend import find_qupath as search

    try:
        app = search(**to_kwargs(_get_settings())).app_dir
    except (ValueError, OSError):
        return None
    return Path(app.parent if platform.system() == "Windows" else app.parent.parent)


class PaquoStore:
    """The objects of a project, read and written by QuPath's own classes.

    ``timeout_s`` is how long QuPath may be silent, in seconds, before its process is ended and the
    request fails. QuPath 0.6 and newer read and save without the slide; 0.5 needs the slide to save.
    """

    name = "paquo"
    writes_project = True

    def __init__(self, project: Project, timeout_s: float = 120) -> None:
        self._project = project
        self._timeout_s = timeout_s
        self._worker: WorkerProcess | None = None

    def __enter__(self) -> Self:
        """Start QuPath's process; QuPathMissingError where there is no QuPath."""
        self._running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def read(self, entry: ImageEntry) -> list[PathObject]:
        """All objects of an image but the root, parents before children.

        Raises StoreError when QuPath cannot read them, or reads another number than ``summary.json``
        says: QuPath answers an empty image for a damaged file.
        """
        rows = self._rows(entry)
        with_ids = not rows or data_version(entry) >= OLDEST_WITH_IDS
        return [decode(row, with_ids) for row in rows]

    def imported(self, entry: ImageEntry) -> Mapping[str, tuple[UUID, ...]]:
        """See :meth:`ProjectStore.imported`; read without QuPath, which gives properties with pixels only."""
        path = data_file(entry)
        try:
            return imported_runs(path.read_bytes()) if path.exists() else {}
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}.", "Check the project folder.") from error

    def fingerprint(self, entry: ImageEntry) -> str:
        """SHA-256 of ``data.qpdata``, empty where the image has none yet."""
        path = data_file(entry)
        try:
            return sha256(path) if path.exists() else ""
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}.", "Check the project folder.") from error

    def ensure_classes(self, classes: Sequence[PathClass]) -> None:
        """Add the classes the project lacks, with colours; existing ones are never changed."""
        if ensure_classes(self._project, classes):
            # QuPath takes a class's colour when it loads the project, so it has to load it again.
            self._stop()

    def apply(self, entry: ImageEntry, edit: Edit) -> str:
        """Remove and add detections, add labels; every other object stays exactly as it is.

        Nothing of the project but the image's own data is written, and that is put back as it was when
        anything fails, the time limit and Ctrl-C included.
        """
        new = [encode(added, ObjectKind.DETECTION) for added in edit.add]
        new += [encode(label, ObjectKind.ANNOTATION) for label in edit.labels]
        require_unchanged(self.fingerprint(entry), edit.expected, entry)
        require_settled(entry.data_dir, entry.name, for_writing=True)
        before = self._rows(entry)
        require_editable(entry, edit, before)
        if not edit.new and not edit.remove:
            return edit.expected
        request = {
            "do": "apply",
            "entry": entry.entry_id,
            "image": str(entry.path) if entry.path else None,
            "expected": edit.expected,
            "count": len(before),
            "remove": [str(identity) for identity in edit.remove],
            "add": new,
        }
        with restored_on_failure(entry.data_dir, entry.name):
            try:
                self._ask(request, entry)
                written = self.fingerprint(entry)
                self._verify(entry, edit, [decode(row, with_ids=True) for row in before])
            except BaseException:
                # Before the files are put back, nobody else may be writing them.
                self._stop(at_once=True)
                raise
        return written

    def _verify(self, entry: ImageEntry, edit: Edit, before: Sequence[PathObject]) -> None:
        saved = self.fingerprint(entry) not in ("", edit.expected)
        if not saved or (entry.data_dir / BACKUP).exists():
            raise StoreError(
                f"QuPath did not save image '{entry.name}'.", "Nothing was changed; use --store native."
            )
        try:
            verify_unchanged(before, self.read(entry), edit)
        except SafetyError as error:
            raise StoreError(error.what, "The image was put back as it was; use --store native.") from error

    def _rows(self, entry: ImageEntry) -> list[Row]:
        require_settled(entry.data_dir, entry.name, for_writing=False)
        if not data_file(entry).exists():
            return []
        replies = self._ask({"do": "read", "entry": entry.entry_id}, entry)
        rows = [Row(values) for reply in replies for values in reply["rows"]]
        expected = summary_count(entry)
        if expected is not None and expected != len(rows) + 1:
            raise StoreError(
                f"QuPath reads {len(rows)} objects of image '{entry.name}', its summary.json says "
                f"{expected - 1}: the data file is damaged or from another time.",
                "Open the image in QuPath, check its objects and save it, or restore it from a backup.",
            )
        return rows

    def _ask(self, request: dict[str, Any], entry: ImageEntry) -> list[dict[str, Any]]:
        try:
            return list(self._running().ask(request, f"image '{entry.name}'"))
        except StoreError:
            raise
        except BaseException:
            # Ctrl-C between two replies: what is still to come must not answer the next question.
            self._stop(at_once=True)
            raise

    def _running(self) -> WorkerProcess:
        if self._worker is not None and self._worker.alive:
            return self._worker
        if find_qupath() is None:
            raise QuPathMissingError(
                "No QuPath installation was found.",
                "Install one with 'paquo get_qupath' and set PAQUO_QUPATH_DIR, or use --store native.",
            )
        self._stop()
        self._worker = WorkerProcess(WORKER, self._project.path, self._timeout_s)
        try:
            self._worker.wait_until_ready(f"project {self._project.path}")
        except BaseException:
            self._stop(at_once=True)
            raise
        return self._worker

    def _stop(self, at_once: bool = False) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill() if at_once else worker.close()
