"""Memory that was freed, given back to the system.

Windows differ in size, so what one leaves free often does not fit the next. glibc keeps it all the same, and
a process that searches a large slide would grow by hundreds of megabytes that it does not use.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

#: Window pixels that are looked at in between, fewer than a large window has: giving back takes 30 ms, such a
#: window two seconds.
_IN_BETWEEN_PX = 4_000_000


@dataclass
class Heap:
    """Gives back now and then; only glibc has to be asked, elsewhere this does nothing."""

    _looked_at_px: int = 0

    def looked_at(self, pixels: int) -> None:
        """Count pixels of windows that were looked at; give back what they left when it is time to."""
        self._looked_at_px += pixels
        if self._looked_at_px >= _IN_BETWEEN_PX:
            self._looked_at_px = 0
            give_back()


def give_back() -> None:
    """Give freed memory back to the system, where the C library can be asked to."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
