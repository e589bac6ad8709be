"""Which reader opens which file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import Slide
from midog_qupath.slides.pictures import SUFFIXES as PICTURES
from midog_qupath.slides.pictures import PictureSlide

TIFFS = frozenset({".tif", ".tiff"})
#: Formats that only OpenSlide reads.
SLIDES = frozenset(
    {".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".czi", ".dcm", ".vms", ".vmu", ".isyntax"}
)
#: All file name endings that images can have.
SUFFIXES = PICTURES | TIFFS | SLIDES


def open_slide(path: Path, args: Sequence[str] = ()) -> Slide:
    """Open an image for reading.

    Parameters
    ----------
    path
        The file.
    args
        Arguments of QuPath's server builder (``--no-crop``).

    Raises
    ------
    SlideError
        Missing, empty, damaged or unsuitable file.
    """
    if not path.is_file():
        raise SlideError(f"There is no image at {path}.", "Put it there, or correct its address in QuPath.")
    if path.stat().st_size == 0:
        raise SlideError(f"{path} is empty.", "Copy it again from its source.")
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        return PictureSlide(path)
    if suffix in TIFFS and not opens_by_openslide(path):
        from midog_qupath.slides.tiff_reader import TiffSlide

        return TiffSlide(path)
    if suffix in TIFFS or suffix in SLIDES:
        from midog_qupath.slides.openslide_reader import OpenSlideSlide

        return OpenSlideSlide(path, args)
    raise SlideError(
        f"{path} has an unknown kind of name ({suffix or 'no ending'}).",
        f"Images end in {', '.join(sorted(SUFFIXES))}.",
    )


def opens_by_openslide(path: Path) -> bool:
    """Whether OpenSlide knows the file (also TIFFs of scanner makers)."""
    import openslide

    return openslide.OpenSlide.detect_format(str(path)) is not None
