"""Who else may be writing: our own lock, and a look for QuPath."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from midog_qupath.errors import SafetyError
from midog_qupath.project.disk import writing
from midog_qupath.project.model import Project

#: Where a lock is created and filled in two steps, an empty one gets this long (seconds) to be filled.
_FILLED_WITHIN = 0.5
#: Of two processes that take over the same stale lock the later wins; both look again after this (seconds).
_SETTLED_AFTER = 0.1
#: How far (seconds) the times at which a process began and a lock was taken may be off.
_CLOCKS_AGREE = 2.0


class Holder(BaseModel):
    """Who holds a lock: process id, computer, since when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    host: str
    time: str


@contextmanager
def project_lock(project: Project) -> Iterator[None]:
    """Hold ``<project>/midog-qupath/lock``: only one process at a time writes into a project.

    The lock of a process of this computer that is no longer alive is taken over. Raises SafetyError
    when somebody else holds it, or when the folder cannot be written.
    """
    path = project.ours / "lock"
    me = Holder(pid=os.getpid(), host=platform.node(), time=datetime.now(UTC).isoformat())
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _created(path, me):
            _take_over(path, me)
    try:
        yield
    finally:
        if _holder(path) == me:
            path.unlink(missing_ok=True)


def _created(path: Path, me: Holder) -> bool:
    mine = _staged(path, me)
    try:
        # Whole at once: a process that is killed here leaves no lock that does not say whose it is.
        os.link(mine, path)
    except FileExistsError:
        return False
    except OSError:
        return _created_in_two_steps(path, me)
    finally:
        mine.unlink(missing_ok=True)
    return True


def _staged(path: Path, me: Holder) -> Path:
    for left in path.parent.glob(f"{path.name}.*"):
        number = left.suffix[1:]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            left.unlink(missing_ok=True)
    mine = path.with_name(f"{path.name}.{me.pid}")
    mine.write_text(me.model_dump_json(), encoding="utf-8")
    return mine


def _created_in_two_steps(path: Path, me: Holder) -> bool:
    """For disks without hard links."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(me.model_dump_json())
    except OSError:
        # A full disk: an empty lock would keep everybody out.
        path.unlink(missing_ok=True)
        raise
    return True


def _take_over(path: Path, me: Holder) -> None:
    other = _patient_holder(path)
    if other is None or other.host != me.host or _alive(other):
        raise _held(path, other)
    os.replace(_staged(path, me), path)
    time.sleep(_SETTLED_AFTER)
    winner = _holder(path)
    if winner != me:
        raise _held(path, winner)


def _held(path: Path, other: Holder | None) -> SafetyError:
    if other is None:
        return SafetyError(
            f"The project is locked by {path}, and it does not say by whom.",
            "If no midog-qupath is at work on this project, delete that file.",
        )
    return SafetyError(
        f"Process {other.pid} on {other.host} has been writing into this project since {other.time}.",
        f"Wait for it to end; if it is not a midog-qupath process any more, delete {path}.",
    )


def _patient_holder(path: Path) -> Holder | None:
    patience = time.monotonic() + _FILLED_WITHIN
    holder = _holder(path)
    while holder is None and time.monotonic() < patience:
        time.sleep(0.05)
        holder = _holder(path)
    return holder


def _holder(path: Path) -> Holder | None:
    try:
        return Holder.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _alive(holder: Holder) -> bool:
    try:
        started: float = psutil.Process(holder.pid).create_time()
        since = datetime.fromisoformat(holder.time)
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, ValueError, OverflowError):
        # Somebody else's process, or no process id at all: not ours to overrule.
        return True
    if since.tzinfo is None:
        return True
    # A process that began after the lock was taken only has the number of the one that took it.
    return started <= since.timestamp() + _CLOCKS_AGREE


def qupath_is_running() -> bool:
    """Whether a QuPath seems to run on this computer; False where that cannot be found out."""
    return any(_is_qupath(arguments) for arguments in _command_lines())


def _is_qupath(arguments: list[str]) -> bool:
    # QuPath's own launcher (QuPath, QuPath-v0.6.0), or its main class run by java; not midog-qupath.
    launcher = re.split(r"[/\\]", arguments[0])[-1].lower().startswith("qupath")
    return launcher or any(argument.startswith("qupath.QuPath") for argument in arguments[1:])


def _command_lines() -> Iterator[list[str]]:
    """Name or command line of every process that is not hidden from us."""
    for process in psutil.process_iter(["name", "cmdline"]):
        yield process.info["cmdline"] or [process.info["name"] or ""]
