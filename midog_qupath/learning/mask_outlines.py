"""Masks as polygons in slide pixels."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from scipy import ndimage
from shapely.geometry import LineString, Point, Polygon

from midog_qupath.dataset.format import AreaRow
from midog_qupath.learning.component_tree import Instances
from midog_qupath.learning.labels import Mask
from midog_qupath.learning.mask_report import AreaMasks
from midog_qupath.models.student import NUCLEUS


def outlines(masks: AreaMasks) -> Iterator[tuple[int, Polygon]]:
    """Pixel class and outline (slide pixels) of every labelled object, then of every normal nucleus."""
    row = masks.area.row
    for label, mask in zip(masks.area.labels, masks.objects, strict=True):
        yield label.pixel_class, mask_polygon(mask, (label.box[0], label.box[1]), row)
    for polygon in _numbered(masks.nuclei, row):
        yield NUCLEUS, polygon


def _numbered(parts: Instances, row: AreaRow) -> Iterator[Polygon]:
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if box is not None:
            yield mask_polygon(parts[box] == number, (box[0].start, box[1].start), row)


def mask_polygon(mask: Mask, corner: tuple[int, int], row: AreaRow) -> Polygon:
    """Outline of the largest component of a mask in slide pixels, its holes filled.

    Parameters
    ----------
    mask
        (height, width) in stored pixels, not empty.
    corner
        Row and column of the mask's first pixel in the area.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    ring = max(found, key=len)[:, 0, :].astype(np.float64)
    line = Polygon(ring) if len(ring) > 3 else LineString(ring) if len(ring) > 1 else Point(ring[0])
    # The contour runs through the centres of the outermost pixels: half a pixel inside their edge.
    shape = line.buffer(0.5, join_style="mitre", cap_style="square").simplify(0.25)
    if not isinstance(shape, Polygon):
        shape = max(shape.geoms, key=lambda part: part.area)
    inside_area = np.array(shape.exterior.coords) + np.array((corner[1] + 0.5, corner[0] + 0.5))
    return Polygon(inside_area * row.downsample + np.array((row.x0, row.y0)))
