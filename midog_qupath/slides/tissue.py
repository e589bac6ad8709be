"""Where the tissue is, from a thumbnail: most of a slide is glass, and the network need not see it."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.slides.base import RgbArray, Slide
from midog_qupath.units import MicronsPerPixel

#: Images smaller than this are searched whole: somebody has chosen the field already.
SMALLEST_MM2 = 4.0
#: Microns per pixel of the thumbnail.
_THUMBNAIL_MPP = 8.0
#: A pixel is tissue when its channels differ by this much, or its brightest is darker than this (0..255).
_COLOURED, _DARK = 12, 200
#: Black is no tissue: scanners fill what they did not scan with it.
_BLACK = 20
#: Gaps up to this size are closed and so much is added around tissue, in microns.
_MARGIN_UM = 64.0
#: Smaller pieces are dust, in square millimetres (with the margin around them).
_DUST_MM2 = 0.03


def find_tissue(slide: Slide, mpp: MicronsPerPixel) -> BaseGeometry:
    """The tissue of an image in slide pixels, generously: what is left out holds no cells.

    The whole image where it is smaller than 4 mm2, or no glass can be told from tissue.
    """
    image = shapely.box(0, 0, slide.width, slide.height)
    if image.area * (mpp / 1000) ** 2 < SMALLEST_MM2:
        return image
    return _tissue(slide, mpp, tissue_mask)


def tissue_outline(slide: Slide, mpp: MicronsPerPixel) -> BaseGeometry:
    """The tissue of an image of any size in slide pixels, without a margin, gaps in it filled.

    The whole image where no glass can be told from tissue.
    """
    return _tissue(slide, mpp, _closed_mask)


def _tissue(
    slide: Slide, mpp: MicronsPerPixel, find: Callable[[RgbArray, float], NDArray[np.uint8]]
) -> BaseGeometry:
    image = shapely.box(0, 0, slide.width, slide.height)
    downsample = max(1.0, _THUMBNAIL_MPP / mpp)
    width, height = (math.ceil(side / downsample) for side in (slide.width, slide.height))
    mask = find(slide.read(0, 0, width, height, downsample), downsample * mpp)
    smallest = _DUST_MM2 / (mpp / 1000) ** 2
    pieces = [piece for piece in _polygons(mask, downsample) if piece.area >= smallest]
    tissue = shapely.intersection(shapely.union_all(pieces), image)
    return image if tissue.is_empty else tissue


def tissue_mask(thumbnail: RgbArray, pixel_um: float) -> NDArray[np.uint8]:
    """(H, W) 1 where a thumbnail with pixels of ``pixel_um`` microns shows tissue or is near it."""
    grown: NDArray[np.uint8] = cv2.dilate(_coloured(thumbnail), _disc(pixel_um))
    return grown


def _closed_mask(thumbnail: RgbArray, pixel_um: float) -> NDArray[np.uint8]:
    # White around the picture would pull the border in where tissue runs past it.
    disc = _disc(pixel_um)
    side = len(disc)
    mask = cv2.copyMakeBorder(_coloured(thumbnail), side, side, side, side, cv2.BORDER_REPLICATE)
    closed: NDArray[np.uint8] = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc)[side:-side, side:-side]
    return closed


def _disc(pixel_um: float) -> NDArray[np.uint8]:
    side = 2 * max(1, round(_MARGIN_UM / pixel_um)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def _coloured(thumbnail: RgbArray) -> NDArray[np.uint8]:
    smooth = cv2.GaussianBlur(thumbnail, (5, 5), 0)
    brightest, darkest = smooth.max(axis=2), smooth.min(axis=2)
    coloured = brightest - darkest >= _COLOURED
    mask = ((coloured | (brightest < _DARK)) & (brightest > _BLACK)).astype(np.uint8)
    # Single specks would grow to the size of tissue by the margin.
    opened: NDArray[np.uint8] = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return opened


def _polygons(mask: NDArray[np.uint8], downsample: float) -> list[BaseGeometry]:
    # Holes in tissue are searched too: they are small, and a plain outline is quick to test against.
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [(contour[:, 0, :] + 0.5) * downsample for contour in contours if len(contour) >= 3]
    # A contour runs through pixel centres: half a pixel inside the edge.
    return [Polygon(ring).buffer(downsample / 2, join_style="mitre") for ring in rings]
