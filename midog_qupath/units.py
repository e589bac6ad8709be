"""Lengths and positions carry their unit in the type.

Slide pixels are full-resolution pixels of the image as QuPath shows it (x right, y down, floats);
tile pixels are pixels of an array that was read at some working resolution.
"""

from __future__ import annotations

from typing import NewType

SlidePixels = NewType("SlidePixels", float)
TilePixels = NewType("TilePixels", float)
Microns = NewType("Microns", float)
MicronsPerPixel = NewType("MicronsPerPixel", float)

#: Resolution at which the networks work, in microns per pixel.
WORKING_MPP = MicronsPerPixel(0.25)
#: Coarser than this warns and marks the result.
COARSE_MPP = MicronsPerPixel(0.35)
#: Coarser than this is refused unless forced.
REFUSED_MPP = MicronsPerPixel(0.60)
#: The challenge's matching radius; detections closer than this are one object.
MATCH_RADIUS = Microns(7.5)


def to_pixels(length: Microns, mpp: MicronsPerPixel) -> SlidePixels:
    """Length in slide pixels of ``length`` microns at ``mpp`` microns per slide pixel."""
    return SlidePixels(length / mpp)
