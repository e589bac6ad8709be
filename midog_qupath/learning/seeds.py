"""Seed masks: a first guess of every object's pixels, from haematoxylin alone."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.labels import Label, Mask, Window
from midog_qupath.learning.nuclei import interiors, nucleus_instances
from midog_qupath.learning.objects import apart, dark_stain, disc, object_seeds
from midog_qupath.learning.stain import haematoxylin
from midog_qupath.models.student import BACKGROUND, NUCLEUS

#: Pixels that no loss looks at.
IGNORE = 255
#: A pixel whose brightest channel is darker than this is padding, not tissue.
PADDING = 12
#: A threshold needs this many pixels to choose it from.
_FEWEST_PIXELS = 500

LabelMap = NDArray[np.uint8]


def seed_map(
    image: NDArray[np.uint8], exhaustive: Mask, cells: Sequence[Window], labels: list[Label], nuclei: bool
) -> LabelMap:
    """Pixel classes of an area (height, width) from haematoxylin seeds; :data:`IGNORE` where unknown.

    Parameters
    ----------
    image
        (height, width, 3) uint8 RGB at the working resolution.
    exhaustive
        (height, width) True where every mitotic figure is labelled.
    cells
        Windows (y0, x0, y1, x1) of a mosaic of which nothing but their objects is labelled, and whose
        other nuclei are taken for normal all the same.
    nuclei
        Whether normal nuclei get a class of their own or are background.
    """
    dye = haematoxylin(image)
    result = np.where(exhaustive, BACKGROUND, IGNORE).astype(np.uint8)
    if nuclei and exhaustive.any():
        # Two tiles of a slide can be mostly unlabelled ground.
        labelled = _bounds(exhaustive)
        result[labelled][nucleus_seeds(dye[labelled], exhaustive[labelled])] = NUCLEUS
    extents = _extents(exhaustive.shape, labels)
    for y0, x0, y1, x1 in cells:
        within = np.s_[y0:y1, x0:x1]
        result[within] = _cell_map(image[within], dye[within], extents[within], nuclei)
    smooth = dark_stain(image, labels)
    paint(result, labels, object_seeds(smooth, labels), smooth)
    return result


def nucleus_seeds(dye: NDArray[np.float32], among: Mask) -> Mask:
    """Nuclei among the pixels of an area (height, width); where two touch, the pixels between are none."""
    return interiors(nucleus_instances(dye, among)) & among


def _bounds(mask: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _extents(shape: tuple[int, ...], labels: list[Label]) -> Mask:
    inside = np.zeros(shape, dtype=bool)
    for label in labels:
        y0, x0, y1, x1 = label.box
        inside[y0:y1, x0:x1] |= label.extent
    return inside


def _cell_map(image: NDArray[np.uint8], dye: NDArray[np.float32], labelled: Mask, nuclei: bool) -> LabelMap:
    """Pixel classes of one cell of a mosaic; black padding and the labelled extent stay unknown."""
    padding = cv2.dilate((image.max(axis=2) < PADDING).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    known = ~(labelled | padding)
    result = np.where(known, BACKGROUND, IGNORE).astype(np.uint8)
    if nuclei and known.sum() > _FEWEST_PIXELS:
        # Padding is blacker than any nucleus, and a dark mitotic figure would raise the threshold.
        tissue = np.where(padding, np.median(dye[known]), dye).astype(np.float32)
        result[nucleus_seeds(tissue, known)] = NUCLEUS
    return result


def disc_map(exhaustive: Mask, labels: list[Label]) -> LabelMap:
    """Pixel classes from discs of 3 µm at the labels' centres: the floor that pseudo-masks must beat."""
    result = np.where(exhaustive, BACKGROUND, IGNORE).astype(np.uint8)
    paint(result, labels, apart(labels, [disc(label) for label in labels]), None)
    return result


def paint(
    target: LabelMap, labels: Sequence[Label], masks: Sequence[Mask], smooth: NDArray[np.float32] | None
) -> None:
    """Draw objects into ``target``: their pixels, and background around them inside the labels' extents.

    Other dark pixels inside an extent may belong to a neighbour: they are ignored.

    Parameters
    ----------
    target
        (height, width) pixel classes, changed in place.
    masks
        Of each label its object's pixels in the window ``label.box``, as :func:`apart` returns them.
    smooth
        (height, width) smoothed haematoxylin, None to ignore nothing.
    """
    # All surroundings first: one object's must not erase its neighbour.
    for label, mask in zip(labels, masks, strict=True):
        y0, x0, y1, x1 = label.box
        window, ring = target[y0:y1, x0:x1], label.extent & ~mask
        window[ring] = BACKGROUND
        if smooth is not None and mask.any():
            dark = smooth[y0:y1, x0:x1]
            window[ring & (dark > _dark_level(dark, mask))] = IGNORE
    for label, mask in zip(labels, masks, strict=True):
        y0, x0, y1, x1 = label.box
        target[y0:y1, x0:x1][mask] = label.pixel_class


def _dark_level(smooth: NDArray[np.float32], mask: Mask) -> float:
    return 0.7 * float(np.median(smooth[mask]))
