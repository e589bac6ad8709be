"""Pixels of one image, whatever its file format."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from midog_qupath.units import MicronsPerPixel

#: (height, width, 3) uint8 RGB.
RgbArray: TypeAlias = NDArray[np.uint8]
#: (height, width, 3) uint16 sums of RGB levels over squares of pixels.
SumArray: TypeAlias = NDArray[np.uint16]
#: Microns per pixel that an image of tissue can have.
SENSIBLE_MPP = (0.05, 10.0)
#: Pixel sizes of x and y that differ by more than this share are worth a word.
_SQUARE = 0.02


@dataclass(frozen=True)
class Level:
    """One level of a pyramid. ``downsample``: slide pixels per level pixel."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class PixelSize:
    """Microns per pixel of a file by axis. ``guessed``: from the objective's power, nobody measured it."""

    x: float
    y: float
    guessed: bool = False

    @property
    def mpp(self) -> MicronsPerPixel:
        """Mean of both axes."""
        return MicronsPerPixel((self.x + self.y) / 2)

    @property
    def doubt(self) -> str | None:
        """Why not to rely on it, or None."""
        if self.guessed:
            return f"{self.mpp:.3g} µm per pixel is a guess from the objective's power"
        if abs(self.x - self.y) > _SQUARE * self.mpp:
            return f"its pixels are not square ({self.x:.3g} x {self.y:.3g} µm)"
        return None


def pixel_size(x: float | None, y: float | None, guessed: bool = False) -> PixelSize | None:
    """Microns per pixel as a file gives them; None where it does not, or where they make no sense.

    Programs that know nothing of microscopes write 72, 96 or 300 dots an inch (85 to 353 µm).
    """
    known = [size for size in (x, y) if size is not None and SENSIBLE_MPP[0] <= size <= SENSIBLE_MPP[1]]
    return PixelSize(known[0], known[1], guessed) if len(known) == 2 else None


@dataclass(frozen=True)
class FileFacts:
    """What a file says of its image beyond the pixels; in ``project.qpproj`` QuPath keeps the same.

    ``levels``: the pyramid, full resolution first. ``tile_width``, ``tile_height``: pixels stored
    together. ``channels``: as QuPath counts them, 3 for RGB, 1 for grey and for indexed colours.
    ``magnification``: of the objective. ``scenes``: images in the file, of which this is the first.
    """

    levels: tuple[Level, ...]
    tile_width: int
    tile_height: int
    channels: int = 3
    pixel_size: PixelSize | None = None
    magnification: float | None = None
    scenes: int = 1


class Slide(AbstractContextManager["Slide"], Protocol):
    """An open image. ``width``, ``height`` in slide pixels as QuPath counts them (after a bounds crop).

    A slide is cheap to open, picklable by its path only: each process opens its own. Threads may share one.
    """

    width: int
    height: int
    #: Microns per pixel from the file itself, or None when it says nothing.
    file_mpp: MicronsPerPixel | None

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> RgbArray:
        """Read an area at a working resolution.

        Parameters
        ----------
        x, y
            Upper left corner in slide pixels; may lie outside the image.
        width, height
            Size of the result in tile pixels.
        downsample
            Slide pixels per tile pixel (1 = full resolution).

        Returns
        -------
        (height, width, 3) uint8 RGB; white where the area reaches past the image.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


@runtime_checkable
class FileSlide(Slide, Protocol):
    """A slide that lies in a file."""

    facts: FileFacts

    def __enter__(self) -> FileSlide:
        """The slide itself."""
        ...


@runtime_checkable
class SummingSlide(Slide, Protocol):
    """A slide that sums squares of its pixels piece by piece, which is quicker than all at the end."""

    def read_sums(self, x: int, y: int, width: int, height: int, by: int) -> SumArray | None:
        """Read sums over squares of ``by`` pixels of the full resolution.

        Parameters
        ----------
        x, y
            Upper left corner in slide pixels; may lie outside the image.
        width, height
            Size in slide pixels, multiples of ``by``.

        Returns
        -------
        (height / by, width / by, 3) uint16, exactly the sums of what :meth:`read` gives; None where the
        pieces of the file do not part into such squares.
        """
        ...
