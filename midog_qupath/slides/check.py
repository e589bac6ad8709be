"""Opening the image of a project's entry, refused where its pixels are not what QuPath shows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from midog_qupath.errors import SlideError
from midog_qupath.project.model import ImageEntry
from midog_qupath.project.qpproj import require_plain
from midog_qupath.slides.base import FileSlide
from midog_qupath.slides.open import open_slide


def open_entry(entry: ImageEntry) -> FileSlide:
    """Open the pixels of an entry.

    Raises
    ------
    SlideError
        Image missing, damaged, of another size than in the project, or shown rotated or cropped.
    """
    require_plain(entry)
    if entry.path is None:
        raise SlideError(
            f"{entry.name} is not at {entry.builder.uri}, nor beside the project.",
            "Put it back, or correct its address in QuPath (open the image, it asks).",
        )
    slide = open_slide(entry.path, entry.builder.args)
    expected = (entry.width or slide.width, entry.height or slide.height)
    if (slide.width, slide.height) != expected:
        found = f"{slide.width} x {slide.height}"
        slide.close()
        raise SlideError(
            f"{entry.name} is {expected[0]} x {expected[1]} px in the project and {found} in {entry.path}.",
            "It is another image: put the right one there.",
        )
    return slide


def sized(entry: ImageEntry) -> ImageEntry:
    """The entry with the size of its image, from the file where the project holds no metadata of it.

    As it was, where the file cannot be opened: whoever needs its pixels will say so.
    """
    if entry.width and entry.height:
        return entry
    with suppress(SlideError), open_entry(entry) as slide:
        return replace(entry, width=slide.width, height=slide.height)
    return entry
