"""What a project's disk can refuse: full, read-only, gone."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from midog_qupath.errors import SafetyError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes ``path``, into a SafetyError that tells what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SafetyError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free some space on that disk and run the command again."
            if full
            else "Ask for write access to the project folder, or work on a copy of the project.",
        ) from error
