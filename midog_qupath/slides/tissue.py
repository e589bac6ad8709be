"""Where the tissue is, from a thumbnail: most of a slide is glass, and the network need not see it.

Light that tissue takes away is measured as optical density against the glass of the same slide. Stained
tissue takes most from green, whatever the scanner: that tells it from shadows, uneven light and stitching,
which take the same from all channels, and from ink, which takes most from red or blue. Averaged over a
cell's size even pale stroma and the walls of fat cells stand out; single specks do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

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
THUMBNAIL_MPP = 8.0
#: So much is kept around tissue, and stain is averaged over this (standard deviation), in microns.
_MARGIN_UM, _AVERAGED_UM = 32.0, 32.0
#: Averaged density that is tissue: of green above the lesser of red and blue, and of the clearest channel.
_STAINED, _GREY = 0.014, 0.12
#: Density of a single pixel that can be tissue, if its surroundings agree.
_PIXEL_STAINED, _PIXEL_GREY = 0.03, 0.15
#: Channel values (0..255): glass is brighter than this; black, which scanners fill with, is darker.
_GLASS, _BLACK, _UNSCANNED = 215, 45, 253
#: Holes smaller than this are searched, and pieces with less tissue than this are dust; square millimetres.
HOLE_MM2, _DUST_MM2 = 0.1, 0.01

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]


def find_tissue(slide: Slide, mpp: MicronsPerPixel) -> BaseGeometry:
    """The tissue of an image in slide pixels, generously: what is left out holds no cells.

    The whole image where it is smaller than 4 mm2, or no glass can be told from tissue.
    """
    image = shapely.box(0, 0, slide.width, slide.height)
    if image.area * (mpp / 1000) ** 2 < SMALLEST_MM2:
        return image
    return _tissue(slide, mpp, tissue_mask)


def tissue_outline(slide: Slide, mpp: MicronsPerPixel, hole_mm2: float = HOLE_MM2) -> BaseGeometry:
    """The tissue of an image of any size in slide pixels, without a margin.

    Gaps that are narrower than 64 microns, and holes smaller than ``hole_mm2``, count as tissue. The whole
    image where no glass can be told from tissue.
    """
    return _tissue(slide, mpp, partial(_closed_mask, hole_mm2=hole_mm2))


def _tissue(slide: Slide, mpp: MicronsPerPixel, find: Callable[[RgbArray, float], Mask]) -> BaseGeometry:
    image = shapely.box(0, 0, slide.width, slide.height)
    downsample = max(1.0, THUMBNAIL_MPP / mpp)
    width, height = (math.ceil(side / downsample) for side in (slide.width, slide.height))
    mask = find(slide.read(0, 0, width, height, downsample), downsample * mpp)
    tissue = shapely.intersection(_outlines(mask, downsample), image)
    return image if tissue.is_empty else tissue


def tissue_mask(thumbnail: RgbArray, pixel_um: float, hole_mm2: float = HOLE_MM2) -> Mask:
    """(H, W) 1 where a thumbnail with pixels of ``pixel_um`` microns shows tissue or is near it.

    Holes smaller than ``hole_mm2`` count as tissue.
    """
    density = _density(thumbnail)
    ink = _ink(density, thumbnail)
    density[ink > 0] = 0
    seen = _stain(density) > _PIXEL_STAINED
    seen |= density.min(axis=2) > _PIXEL_GREY
    around = max(1.0, _AVERAGED_UM / pixel_um)
    average = cv2.GaussianBlur(density, (0, 0), around)
    tissue = (_stain(average) > _STAINED) | (average.min(axis=2) > _GREY)
    pixels = (seen & tissue & (ink == 0)).astype(np.uint8)
    grown = _grow(pixels, _margin(pixel_um))
    mm2 = (pixel_um / 1000) ** 2
    return _fill_holes(_without_dust(grown, pixels, _DUST_MM2 / mm2), hole_mm2 / mm2)


def _closed_mask(thumbnail: RgbArray, pixel_um: float, hole_mm2: float) -> Mask:
    """Tissue without the margin. Beyond the picture counts as tissue: it may well run on there."""
    glass = 1 - tissue_mask(thumbnail, pixel_um, hole_mm2)
    return np.asarray(1 - _grow(glass, _margin(pixel_um)), dtype=np.uint8)


def _margin(pixel_um: float) -> int:
    return max(1, round(_MARGIN_UM / pixel_um))


def _density(thumbnail: RgbArray) -> Floats:
    """(H, W, 3) optical density, -ln(value / glass), at least 0."""
    darkest = thumbnail.min(axis=2)
    # Pure white was never scanned.
    bright = thumbnail[(darkest >= _GLASS) & (darkest < _UNSCANNED)]
    # Where there is no glass to be seen, or hardly any, what is bright is pale tissue.
    enough = len(bright) > 0.01 * thumbnail.shape[0] * thumbnail.shape[1]
    glass = np.median(bright, axis=0) if enough else np.full(3, 245.0)
    levels = np.maximum(np.arange(256, dtype=np.float32), 1.0)[:, None] / glass.astype(np.float32)
    table = np.maximum(-np.log(levels), 0).astype(np.float32)
    density: Floats = cv2.LUT(np.ascontiguousarray(thumbnail), table[None])
    return density


def _stain(density: Floats) -> Floats:
    """What green loses above the lesser of red and blue: 0 for grey, at least a third of it for stains."""
    stain: Floats = density[..., 1] - np.minimum(density[..., 0], density[..., 2])
    return stain


def _ink(density: Floats, thumbnail: RgbArray) -> Mask:
    """(H, W) 1 on pen strokes and what scanners fill with black, and on the blurred rim of both."""
    red, green, blue = (density[..., channel] for channel in range(3))
    # Blue, green and turquoise pens take more from red than any stain does; haematoxylin takes 0.93 of green.
    cold = red > 1.15 * green + 0.06
    # Red pens take nearly as much from blue as from green, and a lot; eosin takes a third at most.
    warm = (green > 1.0) & (blue > 0.7 * green) & (red < 0.45 * green)
    black = (thumbnail.max(axis=2) < _BLACK) | (
        (density.min(axis=2) > 1.1) & (np.ptp(density, axis=2) < 0.35)
    )
    # Strokes are wide; a few pixels of such colour in tissue are pigment or folds.
    wide = cv2.morphologyEx((cold | warm | black).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return _grow(wide, 4)


def _grow(mask: Mask, by: int) -> Mask:
    side = 2 * by + 1
    grown: Mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return grown


def _without_dust(mask: Mask, pixels: Mask, smallest: float) -> Mask:
    """Without the pieces of ``mask`` that hold fewer than ``smallest`` of ``pixels``."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    held = np.bincount(labels.ravel(), weights=pixels.ravel(), minlength=count)
    kept = (held >= smallest).astype(np.uint8)
    kept[0] = 0
    return np.asarray(kept[labels], dtype=np.uint8)


def _fill_holes(mask: Mask, largest: float) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:count, cv2.CC_STAT_AREA] < largest
    return np.asarray(mask | small[labels].astype(np.uint8), dtype=np.uint8)


def _outlines(mask: Mask, downsample: float) -> BaseGeometry:
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    pieces, holes = [], []
    for contour, (_, _, _, parent) in zip(contours, tree[0] if len(contours) else (), strict=True):
        if parent >= 0:
            holes.append(_ring(contour, downsample, -downsample / 2))
        else:
            pieces.append(_ring(contour, downsample, downsample / 2))
    return shapely.difference(shapely.union_all(pieces), shapely.union_all(holes))


def _ring(contour: NDArray[np.int32], downsample: float, wider: float) -> BaseGeometry:
    # A contour runs through the centres of the outermost pixels of tissue: half a pixel inside its edge.
    points = (contour[:, 0, :] + 0.5) * downsample
    if len(points) < 3:
        return shapely.LineString(np.repeat(points, 2, axis=0)[:2]).buffer(max(wider, 0), cap_style="square")
    return Polygon(points).buffer(wider, join_style="mitre")
