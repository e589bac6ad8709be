"""Copies of what a run may change, made and checked before it changes anything."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from midog_qupath.errors import SafetyError
from midog_qupath.files import sha256, write_json
from midog_qupath.project.disk import writing
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.project.qpdata.save import put_files

#: What is copied of an image: its objects, their counts, and the copy of its address that new data get.
IMAGE_FILES = ("data.qpdata", "summary.json", "server.json")
_RECORD = "backup.json"
_TIME = re.compile(r"\d{8}-\d{6}(-\d+)?")


class BackupRecord(BaseModel):
    """``backup.json``: SHA-256 of every file, by its path relative to the project folder.

    ``images`` are the entry ids of the images whose state it holds (one without files had none then),
    ``why`` says before what it was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    time: str
    why: str = ""
    images: tuple[str, ...] = ()
    files: dict[str, str]


@dataclass(frozen=True)
class Backup:
    """A backup that lies in a project; ``record`` is None where it is damaged."""

    folder: Path
    record: BackupRecord | None

    @property
    def time(self) -> str:
        """Its name: when it was made, and ``-2`` and so on where two were made in one second."""
        return self.folder.name

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def now_as_time() -> str:
    """The name of a backup that is made now."""
    return f"{datetime.now():%Y%m%d-%H%M%S}"


def back_up(project: Project, entries: Sequence[ImageEntry], time: str, why: str = "") -> Path:
    """Copy project file, classes, our manifests and the objects of ``entries`` to ``backups/<time>/``.

    Returns the folder (``<time>-2`` and so on where ``<time>`` is taken). Files that do not exist are
    left out. Every copy is read back and compared by SHA-256; the folder gets its name when all is there.
    Raises SafetyError when the disk is full or a copy differs; what was copied is removed then, and nothing
    else was touched.
    """
    folder = project.ours / "backups" / time
    part = folder.with_name(f".{time}.{os.getpid()}.tmp")
    with writing(folder):
        try:
            part.mkdir(parents=True)
            files = {name: _copy(project.folder / name, part / name) for name in _names(project, entries)}
            images = tuple(entry.entry_id for entry in entries)
            record = BackupRecord(time=time, why=why, images=images, files=files)
            write_json(part / _RECORD, record.model_dump())
            return _named(part, folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def all_backups(project: Project) -> tuple[Backup, ...]:
    """The backups of a project, oldest first."""
    folder = project.ours / "backups"
    found = [path for path in folder.glob("*") if path.is_dir() and _TIME.fullmatch(path.name)]
    return tuple(Backup(path, _record_or_none(path)) for path in sorted(found, key=_order))


def checked_record(project: Project, entries: Sequence[ImageEntry], backup: Path) -> BackupRecord:
    """The record of a backup, after every file of ``entries`` in it was found to be as it was copied.

    Raises SafetyError for a damaged backup.
    """
    record = _record_or_none(backup)
    if record is None:
        raise _damaged(backup / _RECORD)
    for entry in entries:
        for name in image_names(project, entry):
            whole = name not in record.files or (
                (backup / name).is_file() and sha256(backup / name) == record.files[name]
            )
            if not whole:
                raise _damaged(backup / name)
    return record


def put_back(project: Project, entry: ImageEntry, backup: Path, now: str) -> None:
    """Put the objects of an image back as :func:`back_up` found them.

    ``now`` is the SHA-256 of the data file that is replaced (empty: there is none): one that somebody saved
    in the meantime stays.

    Wherever it is cut short, the image is whole: as it was, or as it was in the backup. Raises SafetyError
    when the backup is damaged or somebody saved the image (nothing is changed then), or it cannot be written.
    """
    record = checked_record(project, [entry], backup)

    def still() -> None:
        if digest_or_empty(entry.data_dir / IMAGE_FILES[0]) != now:
            raise SafetyError(
                f"Image '{entry.name}' was saved by another program in the meantime.",
                "Close it in QuPath and run the command again.",
            )

    with writing(entry.data_dir):
        put_files(
            entry.data_dir,
            {
                Path(name).name: (backup / name).read_bytes() if name in record.files else None
                for name in image_names(project, entry)
            },
            still,
        )


def digest_or_empty(path: Path) -> str:
    """SHA-256 of a file, empty where there is none."""
    return sha256(path) if path.is_file() else ""


def image_names(project: Project, entry: ImageEntry) -> list[str]:
    """Paths of an image's files, relative to the project folder."""
    folder = entry.data_dir.relative_to(project.folder).as_posix()
    return [f"{folder}/{name}" for name in IMAGE_FILES]


def _names(project: Project, entries: Sequence[ImageEntry]) -> Iterator[str]:
    wanted = [project.path.name, "classifiers/classes.json"]
    wanted += [
        path.relative_to(project.folder).as_posix() for path in sorted(project.ours.glob("runs/*.json"))
    ]
    wanted += [name for entry in entries for name in image_names(project, entry)]
    return (name for name in wanted if (project.folder / name).is_file())


def _named(part: Path, folder: Path) -> Path:
    number = 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if not candidate.exists():
            part.rename(candidate)
            return candidate
        number += 1


def _order(folder: Path) -> tuple[str, int]:
    day, second, *number = folder.name.split("-")
    return f"{day}-{second}", int(number[0]) if number else 1


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


def _record_or_none(backup: Path) -> BackupRecord | None:
    try:
        return BackupRecord.model_validate_json((backup / _RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def _damaged(path: Path) -> SafetyError:
    return SafetyError(f"{path} is damaged: nothing is restored from it.", "Take an older backup beside it.")
