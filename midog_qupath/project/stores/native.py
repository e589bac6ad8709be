"""The native store: ``data.qpdata`` read and written with no QuPath and no Java."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import orjson

from midog_qupath.collector import paused
from midog_qupath.errors import SafetyError, StoreError
from midog_qupath.files import write_bytes
from midog_qupath.project.classes_file import ensure_classes
from midog_qupath.project.imported import imported_runs
from midog_qupath.project.model import ImageEntry, PathClass, PathObject, Project
from midog_qupath.project.qpdata.create import new_data
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.edit import edit_and_read as edit_data
from midog_qupath.project.qpdata.objects import objects as read_objects
from midog_qupath.project.qpdata.save import ASIDE, DATA, SUMMARY, save
from midog_qupath.project.qpdata.summary import disagreement, new_summary, updated
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.paquo_guard import require_settled
from midog_qupath.project.verify import verify_unchanged

_SERVER = "server.json"
#: QuPath version in new data files of a project that does not say its own.
_VERSION = "0.6.0"


class NativeStore:
    """Objects of a project straight from its data files.

    ``check``: compare them with ``summary.json``, and refuse them where they differ. ``warn``: is told of
    a data file that has no such summary.
    """

    name = "native"
    writes_project = True

    def __init__(
        self, project: Project, check: bool = True, warn: Callable[[str], None] | None = None
    ) -> None:
        self._project = project
        self._check = check
        self._warn = warn

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        return None

    @paused()
    def read(self, entry: ImageEntry) -> list[PathObject]:
        """See :meth:`ProjectStore.read`; no data file is an image without objects."""
        require_settled(entry.data_dir, entry.name, for_writing=False)
        data = _read(entry.data_dir / DATA)
        return [] if data is None else self._objects(entry, data)

    def imported(self, entry: ImageEntry) -> Mapping[str, tuple[UUID, ...]]:
        """See :meth:`ProjectStore.imported`."""
        data = _read(entry.data_dir / DATA)
        return {} if data is None else imported_runs(data)

    def fingerprint(self, entry: ImageEntry) -> str:
        """SHA-256 of the data file; empty where there is none."""
        return _fingerprint(_read(entry.data_dir / DATA))

    def ensure_classes(self, classes: Sequence[PathClass]) -> None:
        """See :meth:`ProjectStore.ensure_classes`."""
        ensure_classes(self._project, classes)

    @paused()
    def apply(self, entry: ImageEntry, edit: Edit) -> str:
        """See :meth:`ProjectStore.apply`.

        Where the image has no data file yet, a new one is made, for a brightfield H&E image.
        """
        require_settled(entry.data_dir, entry.name, for_writing=True)
        seen = _signature(entry.data_dir / DATA)
        data = _read(entry.data_dir / DATA)
        _require_unchanged(entry, data, edit.expected)
        if data is None:
            if edit.remove:
                raise StoreError(f"{entry.name} has no objects to remove.", "Read it again.")
            return self.create(entry, edit.new)
        if not edit.new and not edit.remove:
            return edit.expected
        before = self._objects(entry, data)
        changed, after = edit_data(data, edit.remove, edit.add, edit.labels)
        # Beside the proof on tokens: every object reads the same, and ours as they were given.
        try:
            verify_unchanged(before, after, edit)
        except SafetyError as error:
            raise StoreError(f"{entry.name} was left as it is: {error.what}", error.remedy) from error
        new = {DATA: changed}
        summary = _read_summary(entry.data_dir / SUMMARY)
        if summary is not None:
            new[SUMMARY] = orjson.dumps(updated(summary, after))
        _save(entry, new, seen)
        return _fingerprint(changed)

    def create(self, entry: ImageEntry, objects: Sequence[PathObject]) -> str:
        """Write data file, summary and server file of a brightfield H&E image that has no data file.

        ``objects``: annotations and detections with ids, put under the root. Returns the new fingerprint.

        Raises
        ------
        StoreError
            If there is a data file, an object cannot be written or the folder is not writable; nothing
            is written then.
        """
        require_settled(entry.data_dir, entry.name, for_writing=True)
        seen = _signature(entry.data_dir / DATA)
        if seen is not None:
            raise StoreError(f"{entry.name} has a data file already.", "Read it and edit it.")
        server = _server_builder(self._project.path, entry)
        data = new_data(server, self._project.version or _VERSION, objects)
        stored = read_objects(read_document(data))
        new = {DATA: data, SUMMARY: orjson.dumps(new_summary(entry.width or 0, entry.height or 0, stored))}
        if not (entry.data_dir / _SERVER).exists():
            new[_SERVER] = orjson.dumps(server, option=orjson.OPT_INDENT_2)
        _save(entry, new, seen)
        return _fingerprint(data)

    def _objects(self, entry: ImageEntry, data: bytes) -> list[PathObject]:
        try:
            found = read_objects(read_document(data))
        except StoreError as error:
            raise type(error)(f"{entry.name}: {error.what}", error.remedy) from error
        if not self._check:
            return found
        summary = _read_summary(entry.data_dir / SUMMARY)
        if summary is None and self._warn is not None:
            self._warn(
                f"{entry.name} has no summary.json, so that nothing tells whether objects of it were lost: "
                "save it in QuPath."
            )
        differs = disagreement(summary, found) if summary is not None else None
        if differs:
            raise StoreError(
                f"{entry.name}: {differs}: one of them is not up to date.",
                "Open the image in QuPath, look whether all objects are there, and save it. "
                "Option --no-check takes it as it is.",
            )
        return found


def finish_save(data_dir: Path) -> None:
    """Write the summary of an image whose save was killed between the objects and their counts.

    Only where the old summary still lies aside: then nobody has saved the image since.
    """
    aside = data_dir / ASIDE
    if not aside.exists():
        return
    data, summary = _read(data_dir / DATA), _read_summary(aside)
    if data is not None and summary is not None and not (data_dir / SUMMARY).exists():
        try:
            counted = updated(summary, read_objects(read_document(data)))
        except StoreError:
            return
        write_bytes(data_dir / SUMMARY, orjson.dumps(counted))
    aside.unlink(missing_ok=True)


def _require_unchanged(entry: ImageEntry, data: bytes | None, expected: str) -> None:
    if _fingerprint(data) != expected:
        raise _changed(entry)


def _changed(entry: ImageEntry) -> StoreError:
    return StoreError(
        f"{entry.name} was changed by somebody else since it was read.",
        "Close the image in QuPath (save it first) and run this again.",
    )


def _signature(path: Path) -> tuple[int, int, int] | None:
    """What differs after anybody has written a file, None where there is none: quick to look at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _fingerprint(data: bytes | None) -> str:
    return hashlib.sha256(data).hexdigest() if data is not None else ""


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}.", "Check the file and its permissions.") from error


def _read_summary(path: Path) -> dict[str, Any] | None:
    raw = _read(path)
    if raw is None:
        return None
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise StoreError(f"{path} is not JSON.", "Save the image again in QuPath.") from error
    return found if isinstance(found, dict) else None


def _server_builder(project: Path, entry: ImageEntry) -> dict[str, Any]:
    """``serverBuilder`` of an image as it stands in ``project.qpproj``, unknown keys included."""
    raw = _read(project)
    try:
        images = json.loads(raw.decode("utf-8-sig"))["images"] if raw is not None else []
        found = [image["serverBuilder"] for image in images if str(image["entryID"]) == entry.entry_id]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{project} cannot be understood.", "Open and save the project in QuPath."
        ) from error
    if not found or not isinstance(found[0], dict):
        raise StoreError(f"{entry.name} is no longer in {project}.", "Open the project anew.")
    return dict(found[0])


def _save(entry: ImageEntry, new: Mapping[str, bytes], seen: tuple[int, int, int] | None) -> None:
    def still() -> None:
        # QuPath may have saved the image while the edit was proved and put on the disk.
        if _signature(entry.data_dir / DATA) != seen:
            raise _changed(entry)

    try:
        save(entry.data_dir, new, still)
    except OSError as error:
        raise StoreError(
            f"{entry.name}: its data file cannot be written ({error.strerror or error}).",
            "Check free space and permissions, and close the image in QuPath.",
        ) from error
