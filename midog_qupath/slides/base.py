"""Pixels of one image, whatever its file format."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midog_qupath.units import MicronsPerPixel

#: (height, width, 3) uint8 RGB.
RgbArray: TypeAlias = NDArray[np.uint8]


class Slide(AbstractContextManager["Slide"], Protocol):
    """An open image. ``width``, ``height`` in slide pixels as QuPath counts them (after a bounds crop).

    A slide is cheap to open, picklable by its path only: each process opens its own.
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
