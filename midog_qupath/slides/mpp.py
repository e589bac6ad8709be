"""How many microns a pixel measures, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from midog_qupath.errors import PixelSizeError
from midog_qupath.project.model import ImageEntry
from midog_qupath.slides.base import Slide
from midog_qupath.units import COARSE_MPP, REFUSED_MPP, MicronsPerPixel

_SENSIBLE = (0.05, 10.0)


@dataclass(frozen=True)
class ResolvedMpp:
    """Microns per pixel and their source. ``coarse``: too coarse for the details of mitoses."""

    mpp: MicronsPerPixel
    source: Literal["project", "file", "option"]

    @property
    def coarse(self) -> bool:
        """Coarser than 0.35 µm per pixel."""
        return self.mpp > COARSE_MPP


def resolve_mpp(
    entry: ImageEntry, slide: Slide | None, option: float | None = None, force: bool = False
) -> ResolvedMpp:
    """Microns per pixel: QuPath's own calibration, else the file's, else the option's.

    Raises
    ------
    PixelSizeError
        If nobody knows it, it makes no sense, or it is coarser than 0.6 and ``force`` is not given.
    """
    found = _find(entry, slide, option)
    if not _SENSIBLE[0] <= found.mpp <= _SENSIBLE[1]:
        raise PixelSizeError(
            f"{entry.name}: {found.mpp:g} µm per pixel makes no sense (from the {found.source}).",
            "Correct the pixel size in QuPath (Image tab).",
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
    if slide is not None and slide.file_mpp is not None:
        return ResolvedMpp(slide.file_mpp, "file")
    if option is not None:
        return ResolvedMpp(MicronsPerPixel(option), "option")
    raise PixelSizeError(
        f"{entry.name}: neither the project nor the file knows its pixel size.",
        "Give it with --mpp 0.25 (microns per pixel), or set it in QuPath (Image tab).",
    )
