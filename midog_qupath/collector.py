"""Python's search for reference cycles, paused where very many objects are made at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Look for no reference cycles meanwhile: objects of an image have none, and there can be 100,000.

    Each search walks over all that exist, a quarter of the time that such an image takes. What is no longer
    used is freed as always; cycles wait until afterwards.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
