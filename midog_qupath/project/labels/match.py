"""Which image of a project a name from elsewhere means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from midog_qupath.project.model import ImageEntry
from midog_qupath.slides.open import SUFFIXES

#: Endings of images and of what lies beside them; anything else after a dot is part of the name.
_ENDINGS = SUFFIXES | {".ome", ".gif", ".webp", ".jp2", ".zarr", ".geojson", ".json", ".xml", ".csv"}


class Names:
    """Finds entries by names as files write them: with folders or without, with an ending or without.

    The strictest way that fits anything decides: ``a.tif`` means ``a.tif`` where there is one, else
    ``a.png``; capitals count only where they tell two images apart; ``7`` means ``007.tiff``.
    """

    def __init__(self, entries: Sequence[ImageEntry]) -> None:
        self._ways = [defaultdict[str, list[ImageEntry]](list) for _ in range(len(_keys("")))]
        for entry in entries:
            for way, keys in zip(self._ways, zip(*map(_keys, _names_of(entry)), strict=True), strict=True):
                for key in dict.fromkeys(keys):
                    way[key].append(entry)

    def find(self, name: str) -> tuple[ImageEntry, ...]:
        """The entries that ``name`` can mean: none, one, or several that it does not tell apart."""
        for way, key in zip(self._ways, _keys(name), strict=True):
            if key and way.get(key):
                return tuple(way[key])
        return ()


def _names_of(entry: ImageEntry) -> list[str]:
    """What an entry is called in the project and on the disk."""
    return [entry.name, *([entry.path.name] if entry.path else [])]


def _keys(name: str) -> tuple[str, ...]:
    """A name in ever looser forms."""
    text = name.strip().replace("\\", "/")
    base = PurePosixPath(text).name
    stem = without_ending(base)
    number = stem.lstrip("0") if stem.isdecimal() else ""
    return text, base, base.lower(), stem.lower(), number


def without_ending(name: str) -> str:
    """A file's name without the endings of images: ``a.ome.tif`` is ``a``, ``slide 2.5x`` stays."""
    while (path := PurePosixPath(name)).suffix.lower() in _ENDINGS and path.stem:
        name = path.stem
    return name
