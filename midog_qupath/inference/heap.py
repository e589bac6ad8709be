"""Memory that was freed: kept for the next windows, and given back to the system now and then.

What is new to a process comes from the system page by page, which takes a tenth of the time of a search on
a CPU where glibc returns every large piece at once. But windows differ in size, and what one leaves free
often does not fit the next: kept for ever, it would come to hundreds of megabytes that nobody uses.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

#: Window pixels that are looked at before what they left free is given back: a few large windows.
_IN_BETWEEN_PX = 20_000_000
#: What ``mallopt`` calls the size from which a piece is taken from the system alone, and the free size at the
#: end of the heap from which it is returned.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_NEVER = 2**31 - 1


@dataclass
class Heap:
    """Keeps what is freed while it is entered; only glibc has to be asked, elsewhere this does nothing."""

    _looked_at_px: int = 0

    def __enter__(self) -> Self:
        keep_freed()
        give_back()
        return self

    def __exit__(self, *args: object) -> None:
        give_back()

    def looked_at(self, pixels: int) -> None:
        """Count pixels of windows that were looked at; give back what they left when it is time to."""
        self._looked_at_px += pixels
        if self._looked_at_px >= _IN_BETWEEN_PX:
            self._looked_at_px = 0
            give_back()


def keep_freed() -> None:
    """From now on this process keeps memory that it frees, until :func:`give_back`."""
    set_option = _of_libc("mallopt")
    # An old glibc refuses the first; the second alone would make it return more than before.
    if set_option is not None and set_option(_MMAP_THRESHOLD, _NEVER):
        set_option(_TRIM_THRESHOLD, _NEVER)


def give_back() -> None:
    """Give freed memory back to the system, where the C library can be asked to."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Callable[..., Any] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
