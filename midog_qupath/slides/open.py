"""Which reader opens which file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import FileSlide
from midog_qupath.slides.pictures import SUFFIXES as PICTURES
from midog_qupath.slides.pictures import PictureSlide

TIFFS = frozenset({".tif", ".tiff"})
#: Formats that only OpenSlide reads.
SLIDES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".czi", ".dcm", ".vms", ".vmu"})
#: All file name endings that images can have.
SUFFIXES = PICTURES | TIFFS | SLIDES
#: What OpenSlide calls a tiled TIFF that no scanner's maker has put a mark on.
_GENERIC = "generic-tiff"


def open_slide(path: Path | str, args: Sequence[str] = ()) -> FileSlide:
    """Open an image for reading.

    Slides of scanner makers go to OpenSlide, also those that end in ``.tif``; any other TIFF to tifffile,
    which knows the pyramids, pixel sizes and 16-bit images that OpenSlide overlooks; pictures to OpenCV.

    Parameters
    ----------
    path
        The file.
    args
        Arguments of QuPath's server builder (``--no-crop``, ``--series 0``).

    Raises
    ------
    SlideError
        Missing, empty, damaged or unsuitable file.
    """
    path = Path(path)
    _require_file(path)
    _require_first_series(path, args)
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        return PictureSlide(path)
    if suffix in TIFFS and openslide_vendor(path) in (None, _GENERIC):
        from midog_qupath.slides.tiff_reader import TiffSlide

        return TiffSlide(path)
    if suffix in TIFFS or suffix in SLIDES:
        from midog_qupath.slides.openslide_reader import OpenSlideSlide

        return OpenSlideSlide(path, args)
    raise SlideError(
        f"{path} has an unknown kind of name ({suffix or 'no ending'}).",
        f"Images end in {', '.join(sorted(SUFFIXES))}.",
    )


def openslide_vendor(path: Path) -> str | None:
    """Maker of the scanner as OpenSlide recognises it; None for a file that it does not open."""
    import openslide

    try:
        vendor = openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError:
        return None
    return str(vendor) if vendor is not None else None


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise SlideError(f"{path} is a folder, not an image.", "Name the file in it.")
    if not path.is_file():
        raise SlideError(f"There is no image at {path}.", "Put it there, or correct its address in QuPath.")
    if path.stat().st_size == 0:
        raise SlideError(f"{path} is empty.", "Copy it again from its source.")


def _require_first_series(path: Path, args: Sequence[str]) -> None:
    chosen = [value for name, value in pairwise(args) if name == "--series"]
    if any(value != "0" for value in chosen):
        raise SlideError(
            f"QuPath shows image number {chosen[0]} of those inside {path}; only number 0 is read.",
            "Export that image to a file of its own and annotate it there.",
        )
