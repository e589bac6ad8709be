"""Which image a name from elsewhere means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from midog_qupath.project.model import ImageEntry
from midog_qupath.slides.open import SUFFIXES

T = TypeVar("T")
#: Endings of images and of what lies beside them; anything else after a dot is part of the name.
_ENDINGS = SUFFIXES | {".ome", ".gif", ".webp", ".jp2", ".zarr", ".geojson", ".json", ".xml", ".csv"}


class Names(Generic[T]):
    """Finds images by names as files write them: with folders or without, with an ending or without.

    The strictest way that fits anything decides: ``a.tif`` means ``a.tif`` where there is one, else
    ``a.png``; capitals count only where they tell two images apart; ``7`` means ``007.tiff``.

    Parameters
    ----------
    images
        Each image with the names that it goes by.
    """

    def __init__(self, images: Iterable[tuple[Sequence[str], T]]) -> None:
        self._ways: list[dict[str, list[T]]] = [defaultdict(list) for _ in _keys("")]
        for names, image in images:
            for way, keys in zip(self._ways, zip(*map(_keys, names), strict=True), strict=True):
                for key in dict.fromkeys(keys):
                    way[key].append(image)

    def find(self, name: str) -> tuple[T, ...]:
        """The images that ``name`` can mean: none, one, or several that it does not tell apart."""
        for way, key in zip(self._ways, _keys(name), strict=True):
            if key and key in way:
                return tuple(way[key])
        return ()


def entry_names(entries: Iterable[ImageEntry]) -> Names[ImageEntry]:
    """The images of a project by what they are called there and on the disk."""
    return Names(([entry.name, *([entry.path.name] if entry.path else [])], entry) for entry in entries)


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
