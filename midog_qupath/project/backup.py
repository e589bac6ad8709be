"""Copies of what a run may change, made and checked before it changes anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from midog_qupath.errors import SafetyError
from midog_qupath.files import sha256, write_bytes, write_json
from midog_qupath.project.disk import writing
from midog_qupath.project.model import ImageEntry, Project

#: What is copied of an image: its objects, their counts, and the copy of its address that new data get.
IMAGE_FILES = ("data.qpdata", "summary.json", "server.json")


class BackupRecord(BaseModel):
    """``backup.json``: SHA-256 of every file, by its path relative to the project folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    time: str
    files: dict[str, str]


def back_up(project: Project, entries: Sequence[ImageEntry], time: str) -> Path:
    """Copy the project file, its classes and the objects of ``entries`` to ``backups/<time>/``.

    Returns the folder (``<time>-2`` and so on where ``<time>`` is taken). Files that do not exist are
    left out. Every copy is read back and compared by SHA-256. Raises SafetyError when the disk is full
    or a copy differs; what was copied is removed then, and nothing else was touched.
    """
    folder = project.ours / "backups" / time
    with writing(folder):
        folder = _new_folder(folder)
        try:
            files = {name: _copy(project.folder / name, folder / name) for name in _names(project, entries)}
            write_json(folder / "backup.json", BackupRecord(time=time, files=files).model_dump())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder


def restore(project: Project, entry: ImageEntry, backup: Path) -> None:
    """Put the objects of an image back as :func:`back_up` found them.

    Raises SafetyError when the backup is damaged (nothing is changed then) or cannot be written back.
    """
    record = _record(backup)
    for name in _image_names(project, entry):
        if name in record.files and sha256(backup / name) != record.files[name]:
            raise _damaged(backup / name)
    for name in _image_names(project, entry):
        target = project.folder / name
        with writing(target):
            if name in record.files:
                write_bytes(target, (backup / name).read_bytes())
            else:
                target.unlink(missing_ok=True)


def _names(project: Project, entries: Sequence[ImageEntry]) -> Iterator[str]:
    wanted = [project.path.name, "classifiers/classes.json"]
    wanted += [name for entry in entries for name in _image_names(project, entry)]
    return (name for name in wanted if (project.folder / name).is_file())


def _image_names(project: Project, entry: ImageEntry) -> list[str]:
    folder = entry.data_dir.relative_to(project.folder).as_posix()
    return [f"{folder}/{name}" for name in IMAGE_FILES]


def _new_folder(folder: Path) -> Path:
    number = 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return candidate


def _copy(source: Path, target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    digest = sha256(source)
    if sha256(target) != digest:
        raise SafetyError(
            f"The copy of {source} in {target.parent} differs from it.",
            "Close the project in QuPath and run the command again; if it stays so, check the disk.",
        )
    return digest


def _record(backup: Path) -> BackupRecord:
    path = backup / "backup.json"
    try:
        return BackupRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> SafetyError:
    return SafetyError(f"{path} is damaged: nothing is restored from it.", "Take an older backup beside it.")
