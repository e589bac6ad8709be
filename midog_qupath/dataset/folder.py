"""A folder that is replaced as a whole: the old one stays until the new one is complete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midog_qupath.errors import DatasetError

#: What a dataset folder may hold; anything else is somebody's own and is not ours to replace.
CONTENTS = frozenset({"dataset.json", "objects.parquet", "images.parquet", "areas.parquet", "pixels", "coco"})


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new empty folder beside ``folder`` that takes its place when the block ends without error.

    Raises
    ------
    DatasetError
        If ``folder`` holds anything but a dataset, or cannot be moved away.
    """
    folder = folder.absolute()
    check_replaceable(folder)
    first = not folder.parent.exists()
    temporary = _temporary_beside(folder)
    try:
        new = temporary / "new"
        new.mkdir()
        yield new
        _swap(new, folder, temporary / "old")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if first and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def _temporary_beside(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    except OSError as error:
        raise DatasetError(
            f"{folder.parent} cannot be written ({error.strerror or error}).",
            "Give another folder with -o, or check the permissions.",
        ) from error


def check_replaceable(folder: Path) -> None:
    """Raise DatasetError if ``folder`` exists and is not a dataset folder, so must not be replaced."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    foreign = sorted(name for name in names - CONTENTS if not name.startswith("."))
    if foreign:
        raise DatasetError(
            f"{folder} is not a dataset: it holds {foreign[0]}.", "Give an empty or new folder with -o."
        )


def _swap(new: Path, folder: Path, old: Path) -> None:
    # No system replaces a filled folder in one step: the old one steps aside, and back if that fails.
    if folder.exists():
        try:
            folder.rename(old)
        except PermissionError as error:
            raise DatasetError(
                f"{folder} is in use or protected.", "End the training that reads it, or check permissions."
            ) from error
    try:
        new.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
