"""The native store: ``data.qpdata`` read and written with no QuPath and no Java."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import orjson

from midog_qupath import files
from midog_qupath.errors import StoreError
from midog_qupath.project.classes_file import ensure_classes
from midog_qupath.project.model import ImageEntry, PathClass, PathObject, Project
from midog_qupath.project.qpdata.create import new_data
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.edit import edit as edit_data
from midog_qupath.project.qpdata.objects import objects as read_objects
from midog_qupath.project.qpdata.summary import disagreement, new_summary, updated
from midog_qupath.project.stores.base import Edit

_DATA, _SUMMARY = "data.qpdata", "summary.json"


class NativeStore:
    """Objects of a project straight from its data files. ``check``: compare them with ``summary.json``."""

    name = "native"
    writes_project = True

    def __init__(self, project: Project, check: bool = True) -> None:
        self._project = project
        self._check = check

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        return None

    def read(self, entry: ImageEntry) -> list[PathObject]:
        """See :meth:`ProjectStore.read`; no data file is an image without objects."""
        data = _read(entry.data_dir / _DATA)
        return [] if data is None else self._objects(entry, data)

    def fingerprint(self, entry: ImageEntry) -> str:
        """SHA-256 of the data file; empty where there is none."""
        data = _read(entry.data_dir / _DATA)
        return hashlib.sha256(data).hexdigest() if data is not None else ""

    def ensure_classes(self, classes: Sequence[PathClass]) -> None:
        """See :meth:`ProjectStore.ensure_classes`."""
        ensure_classes(self._project, classes)

    def apply(self, entry: ImageEntry, edit: Edit) -> None:
        """See :meth:`ProjectStore.apply`."""
        data = _read(entry.data_dir / _DATA)
        if (hashlib.sha256(data).hexdigest() if data is not None else "") != edit.expected:
            raise StoreError(
                f"{entry.name} was changed by somebody else since it was read.",
                "Close the image in QuPath (save it first) and run this again.",
            )
        if data is None:
            self._create(entry, edit)
            return
        before = self._objects(entry, data)
        changed = edit_data(data, edit.remove, edit.add)
        _same_people(entry, before, read_objects(read_document(changed)), edit)
        summary = _read_summary(entry.data_dir / _SUMMARY)
        after = updated(summary, read_objects(read_document(changed))) if summary is not None else None
        _replace(entry, changed, after, summary)

    def create(self, entry: ImageEntry, objects: Sequence[PathObject]) -> None:
        """Write a new data file, summary and server file for an image that has none."""
        if (entry.data_dir / _DATA).exists():
            raise StoreError(f"{entry.name} has a data file already.", "Use apply.")
        server = _server_builder(self._project.path, entry)
        data = new_data(server, self._project.version or "0.6.0", objects)
        read_objects(read_document(data))
        width, height = entry.width or 0, entry.height or 0
        files.write_bytes(entry.data_dir / "server.json", orjson.dumps(server))
        _replace(entry, data, new_summary(width, height, objects), None)

    def _create(self, entry: ImageEntry, edit: Edit) -> None:
        if edit.remove:
            raise StoreError(f"{entry.name} has no objects to remove.", "Read it again.")
        try:
            self.create(entry, edit.add)
        except OSError as error:
            raise _unwritable(entry, error) from error

    def _objects(self, entry: ImageEntry, data: bytes) -> list[PathObject]:
        try:
            found = read_objects(read_document(data))
        except StoreError as error:
            raise type(error)(f"{entry.name}: {error.what}", error.remedy) from error
        summary = _read_summary(entry.data_dir / _SUMMARY) if self._check else None
        differs = disagreement(summary, found) if summary is not None else None
        if differs:
            raise StoreError(
                f"{entry.name}: {differs}: one of them is not up to date.",
                "Open the image in QuPath, look whether all objects are there, and save it.",
            )
        return found


def _same_people(
    entry: ImageEntry, before: Sequence[PathObject], after: Sequence[PathObject], edit: Edit
) -> None:
    """Beside the proof on tokens: every object that is not ours reads the same."""
    added = {thing.id for thing in edit.add}
    kept = [_key(thing) for thing in before if thing.id not in edit.remove or thing.id is None]
    if kept != [_key(thing) for thing in after if thing.id not in added or thing.id is None]:
        raise StoreError(f"{entry.name} was left as it is: other objects would have changed.", "Report this.")


def _key(thing: PathObject) -> tuple[Any, ...]:
    roi = thing.roi
    shape = (roi.kind, roi.geometry.wkb, roi.plane) if roi else None
    own = tuple(sorted((name, repr(value)) for name, value in thing.measurements.items()))
    return (thing.id, thing.kind, thing.path_class, thing.name, thing.locked, thing.parent_id, shape, own)


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
    raw = json.loads(project.read_text(encoding="utf-8-sig"))
    for image in raw.get("images", []):
        if str(image.get("entryID")) == entry.entry_id:
            return dict(image["serverBuilder"])
    raise StoreError(f"{entry.name} is no longer in {project}.", "Open the project anew.")


def _replace(
    entry: ImageEntry, data: bytes, summary: dict[str, Any] | None, old_summary: dict[str, Any] | None
) -> None:
    """Replace both files. In between there is no summary: to QuPath and to us that is a whole project.

    The new bytes are on the disk, under other names, before anything old goes.
    """
    target, beside = entry.data_dir / _DATA, entry.data_dir / _SUMMARY
    fresh = target.with_name(f".{_DATA}.new")
    try:
        files.write_bytes(fresh, data)
        encoded = orjson.dumps(summary) if summary is not None else b""
        beside.unlink(missing_ok=True)
        try:
            os.replace(fresh, target)
        except OSError:
            if old_summary is not None:
                files.write_bytes(beside, orjson.dumps(old_summary))
            raise
        if summary is not None:
            files.write_bytes(beside, encoded)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise _unwritable(entry, error) from error


def _unwritable(entry: ImageEntry, error: OSError) -> StoreError:
    return StoreError(
        f"{entry.name}: its data file cannot be written ({error.strerror or error}).",
        "Check free space and permissions, and close the image in QuPath.",
    )
