"""How long work tells how far it is, without knowing who listens.

Library functions take a :class:`Progress`; the command line passes one that draws bars, tests and
scripts pass :data:`SILENT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one command."""

    def task(self, label: str, total: float, unit: str) -> AbstractContextManager[Callable[[float], None]]:
        """Open a bar of ``total`` ``unit``s; the value is called with each amount done."""
        ...

    def note(self, message: str) -> None:
        """Tell the user one line (which store was taken, which part was switched off)."""
        ...

    def warn(self, message: str) -> None:
        """Tell the user one line that needs attention."""
        ...


class _Silent:
    @contextmanager
    def task(self, label: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        yield lambda amount: None

    def note(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        return None


SILENT: Progress = _Silent()
