"""How many microns a pixel measures, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from midog_qupath.errors import PixelSizeError
from midog_qupath.project.model import ImageEntry
from midog_qupath.slides.base import SENSIBLE_MPP, FileSlide, Slide
from midog_qupath.units import COARSE_MPP, REFUSED_MPP, MicronsPerPixel

Source = Literal["project", "file", "option"]
_CORRECT = {
    "project": "Correct the pixel size in QuPath (Image tab).",
    "file": "Set the pixel size in QuPath (Image tab).",
    "option": "Give --mpp in microns per pixel, such as 0.25.",
}


@dataclass(frozen=True)
class ResolvedMpp:
    """Microns per pixel and their source. ``doubt``: why not to rely on it, such as a guess, or None."""

    mpp: MicronsPerPixel
    source: Source
    doubt: str | None = None

    @property
    def coarse(self) -> bool:
        """Coarser than 0.35 µm per pixel: too coarse for the details of mitoses."""
        return self.mpp > COARSE_MPP


def resolve_mpp(
    entry: ImageEntry, slide: Slide | None, option: float | None = None, force: bool = False
) -> ResolvedMpp:
    """Microns per pixel: QuPath's own calibration, else the file's, else the option's.

    An option goes before what a file only guesses from the objective's power.

    Raises
    ------
    PixelSizeError
        If nobody knows it, it makes no sense, or it is coarser than 0.6 and ``force`` is not given.
    """
    found = _find(entry, slide, option)
    if not SENSIBLE_MPP[0] <= found.mpp <= SENSIBLE_MPP[1]:
        raise PixelSizeError(
            f"{entry.name}: {found.mpp:g} µm per pixel makes no sense (from the {found.source}).",
            _CORRECT[found.source],
        )
    if found.mpp > REFUSED_MPP and not force:
        raise PixelSizeError(
            f"{entry.name} has {found.mpp:.3g} µm per pixel: too coarse to see mitoses.",
            "Scan at 40x, or try all the same with --force.",
        )
    return found


def _find(entry: ImageEntry, slide: Slide | None, option: float | None) -> ResolvedMpp:
    if entry.mpp is not None:
        return ResolvedMpp(entry.mpp, "project")
    size = slide.facts.pixel_size if isinstance(slide, FileSlide) else None
    guessed = size is not None and size.guessed
    if option is not None and (guessed or slide is None or slide.file_mpp is None):
        return ResolvedMpp(MicronsPerPixel(option), "option")
    if slide is not None and slide.file_mpp is not None:
        return ResolvedMpp(slide.file_mpp, "file", size.doubt if size else None)
    raise PixelSizeError(
        f"{entry.name}: neither the project nor the file knows its pixel size.",
        "Give it with --mpp 0.25 (microns per pixel), or set it in QuPath (Image tab).",
    )
