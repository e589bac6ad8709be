"""Putting back what QuPath keeps of an image when an edit through it fails midway."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from midog_qupath.errors import StoreError

#: What QuPath writes when it saves an image.
SAVED_FILES = ("data.qpdata", "summary.json", "server.json")
#: Where QuPath puts the old data file while it saves.
BACKUP = "data.qpdata.bkp"
COPY_SUFFIX = ".midog-before"


def require_settled(data_dir: Path, name: str, for_writing: bool) -> None:
    """StoreError when a crash during a save left QuPath's own backup beside or instead of the data file.

    QuPath's next save would delete that backup, which may be all that is left of somebody's work.
    """
    if (data_dir / BACKUP).exists() and (for_writing or not (data_dir / "data.qpdata").exists()):
        raise StoreError(
            f"The last save of image '{name}' was interrupted: {data_dir / BACKUP} is still there.",
            "Open the image in QuPath, check its objects and save it.",
        )


@contextmanager
def restored_on_failure(data_dir: Path, name: str) -> Iterator[None]:
    """Bring the saved files of an image back, byte for byte, when the block ends with any error.

    The copies lie beside the originals, so that bringing them back needs no space on a full disk.
    """
    existed = data_dir.is_dir()
    kept = _copies(data_dir, name)
    try:
        yield
    except BaseException:
        _put_back(data_dir, kept, existed, name)
        raise
    _discard(kept)


def settle(data_dir: Path) -> None:
    """Tidy up after an edit of ours that was killed together with QuPath's process.

    QuPath puts the old data file aside while it saves. Where that is, to the last byte, the one that we
    copied before the edit, the save was ours, and the image is put back as it was before.
    """
    copy, aside = data_dir / f"data.qpdata{COPY_SUFFIX}", data_dir / BACKUP
    if copy.exists() and aside.exists():
        if copy.read_bytes() != aside.read_bytes():
            return
        for name in SAVED_FILES:
            if (kept := data_dir / f"{name}{COPY_SUFFIX}").exists():
                os.replace(kept, data_dir / name)
        aside.unlink()
    elif not aside.exists():
        _discard({data_dir / name: data_dir / f"{name}{COPY_SUFFIX}" for name in SAVED_FILES})


def _copies(data_dir: Path, name: str) -> dict[Path, Path]:
    kept: dict[Path, Path] = {}
    try:
        for original in (data_dir / file for file in SAVED_FILES):
            if original.exists():
                kept[original] = original.with_name(original.name + COPY_SUFFIX)
                shutil.copy2(original, kept[original])
    except OSError as error:
        _discard(kept)
        raise StoreError(
            f"The data of image '{name}' cannot be copied before the edit: {error}.",
            "Nothing was changed; free space or ask for write access to the project folder.",
        ) from error
    return kept


def _discard(kept: dict[Path, Path]) -> None:
    for copy in kept.values():
        with suppress(OSError):
            copy.unlink(missing_ok=True)


def _put_back(data_dir: Path, kept: dict[Path, Path], existed: bool, name: str) -> None:
    try:
        for original in (data_dir / file for file in (*SAVED_FILES, BACKUP)):
            if original in kept:
                os.replace(kept[original], original)
            else:
                original.unlink(missing_ok=True)
        if not existed and data_dir.is_dir():
            data_dir.rmdir()
    except OSError as error:
        copies = ", ".join(str(copy) for copy in kept.values() if copy.exists())
        raise StoreError(
            f"The edit of image '{name}' failed, and the files before it could not be put back: {error}.",
            f"Rename these copies by hand, without '{COPY_SUFFIX}': {copies}.",
        ) from error
