"""Replacing the files of an image's data folder so that a crash in between leaves a whole image.

QuPath reads ``data.qpdata`` and never compares it with ``summary.json``; our reader does compare. So the
summary goes first and comes last: in between there is none, which both take for a whole image. All new
bytes are on the disk, under other names, before anything old goes, and the old summary is only renamed:
to bring it back needs no space.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

DATA, SUMMARY = "data.qpdata", "summary.json"
#: Where the old summary lies while a save is under way, or after one that was killed.
ASIDE = f".{SUMMARY}.before"


def save(folder: Path, new: Mapping[str, bytes], still: Callable[[], None] | None = None) -> None:
    """Replace files of a data folder by ``new`` (name -> bytes), ``data.qpdata`` among them, or none of them.

    ``still`` is called when all is ready and nothing is replaced yet: what it raises stops the save.

    Raises
    ------
    OSError
        If that fails; everything is then as it was.
    """
    made = not folder.exists()
    staged: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in new.items():
            staged[name] = _stage(folder / name, data)
        if still is not None:
            still()
        _swap(folder, staged)
    finally:
        for path in staged.values():
            _drop(path)
        if made and not (folder / DATA).exists():
            with suppress(OSError):
                folder.rmdir()


def put_files(
    folder: Path, then: Mapping[str, bytes | None], still: Callable[[], None] | None = None
) -> None:
    """Make the files of a data folder what they were: ``then`` holds their bytes, None for none.

    Cut short, the image is whole, old or new. ``still`` and errors as in :func:`save`.
    """
    new = {name: data for name, data in then.items() if data is not None}
    absent = [folder / name for name in then if name not in new]
    if DATA in new:
        save(folder, new, still)
    elif still is not None:
        still()
    # A summary without its data would be refused, data without a summary are not.
    for path in sorted(absent, key=lambda path: path.name == DATA):
        path.unlink(missing_ok=True)
    if DATA not in new and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _stage(target: Path, data: bytes) -> Path:
    """``data`` beside ``target`` under another name, safely on the disk, as readable as ``target``."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        staged.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o644)
    except BaseException:
        _drop(staged)
        raise
    return staged


def _swap(folder: Path, staged: Mapping[str, Path]) -> None:
    summary, aside = folder / SUMMARY, folder / ASIDE
    added = [folder / name for name in staged if name not in (DATA, SUMMARY) and not (folder / name).exists()]
    try:
        if summary.exists():
            os.replace(summary, aside)
        for name in staged.keys() - {DATA, SUMMARY}:
            os.replace(staged[name], folder / name)
        written = _identity(staged[DATA])
        os.replace(staged[DATA], folder / DATA)
    except BaseException:
        if aside.exists() and not summary.exists():
            os.replace(aside, summary)
        for path in added:
            _drop(path)
        raise
    # The objects are in; without a summary the image is still whole.
    if SUMMARY in staged:
        with suppress(OSError):
            counted = _identity(staged[SUMMARY])
            os.replace(staged[SUMMARY], summary)
            # QuPath may have saved over the objects in between: these are not its counts then.
            if _identity(folder / DATA) != written and _identity(summary) == counted:
                summary.unlink()
    _drop(aside)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies under a name, None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _drop(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
