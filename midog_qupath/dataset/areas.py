"""Which blocks of pixels hold the labelled extent of an image.

Blocks of one image never overlap, so that an object lies in one block and is trained on once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.units import WORKING_MPP, MicronsPerPixel

#: x0, y0, x1, y1 in slide pixels.
Box: TypeAlias = tuple[float, float, float, float]

#: Side of the square kept around an object of which only itself is known, in working pixels (64 um).
AROUND = 256
#: Context kept around a region or a large object, in working pixels.
MARGIN = 32
#: Largest side of a block in working pixels: 50 MB of RGB.
BLOCK = 4096
#: An image this near to the working resolution is stored as it is: resampling would only blur it.
AS_IS = 0.03


def working_downsample(mpp: MicronsPerPixel) -> float:
    """Slide pixels per stored pixel for an image of this pixel size; 1 within 3 % of the working one."""
    downsample = WORKING_MPP / mpp
    return 1.0 if abs(downsample - 1) <= AS_IS else downsample


def plan_areas(image: ImageRow, objects: Iterable[ObjectRow]) -> list[AreaRow]:
    """The blocks that hold the labelled extent of an image, none overlapping another; ``file`` is empty.

    ``whole`` and mosaics: the whole image. ``regions``: the regions with a margin, and objects outside them
    like those of ``objects``: a square around each, squares that overlap stored as one.
    """
    downsample = working_downsample(image.mpp)
    if image.extent == "whole" or image.cell_px is not None:
        wanted: list[BaseGeometry] = [shapely.box(0, 0, image.width, image.height)]
    else:
        wanted = list(_wanted(image, objects, downsample))
    boxes = [box for shape in wanted if (box := _snapped(shape, image)) is not None]
    near = shapely.STRtree(wanted)
    blocks = [
        block
        for box in merge_overlapping(boxes)
        for block in split_box(box.bounds, BLOCK * downsample)
        if near.query(shapely.box(*block), predicate="intersects").size
    ]
    return [_area(image.name, block, downsample) for block in blocks]


def _area(image: str, box: Box, downsample: float) -> AreaRow:
    x0, y0, x1, y1 = box
    width, height = (max(1, math.floor(side / downsample + 1e-6)) for side in (x1 - x0, y1 - y0))
    return AreaRow(image, x0, y0, downsample, width, height, "")


def _snapped(shape: BaseGeometry, image: ImageRow) -> Polygon | None:
    """Box around a shape on whole slide pixels (so that nothing is interpolated), inside the image."""
    x0, y0, x1, y1 = shape.bounds
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    right, bottom = min(image.width, math.ceil(x1)), min(image.height, math.ceil(y1))
    return shapely.box(left, top, right, bottom) if left < right and top < bottom else None


def _wanted(image: ImageRow, objects: Iterable[ObjectRow], downsample: float) -> Iterator[BaseGeometry]:
    regions = shapely.from_wkb(image.region_polygons) if image.region_polygons else shapely.Polygon()
    margin = MARGIN * downsample
    for part in shapely.get_parts(regions):
        if not part.is_empty:
            yield part.buffer(margin)
    for row in objects:
        if not regions.intersects(shapely.Point(row.x, row.y)):
            yield _surroundings(row, downsample)


def _surroundings(row: ObjectRow, downsample: float) -> BaseGeometry:
    half, margin = AROUND / 2 * downsample, MARGIN * downsample
    square = shapely.box(row.x - half, row.y - half, row.x + half, row.y + half)
    outline = shapely.from_wkb(row.polygon).buffer(margin) if row.polygon else square
    return shapely.envelope(shapely.union(square, outline))


def merge_overlapping(boxes: Sequence[Polygon]) -> list[Polygon]:
    """Boxes that overlap or share a side replaced by the box around them, until none do; top to bottom."""
    while True:
        merged = [shapely.envelope(part) for part in shapely.get_parts(shapely.unary_union(boxes))]
        if len(merged) == len(boxes):
            return sorted(merged, key=lambda box: (box.bounds[1], box.bounds[0]))
        boxes = merged


def split_box(box: Box, side: float) -> list[Box]:
    """Cut a box into equal blocks of at most ``side``, row by row, on whole slide pixels."""
    x0, y0, x1, y1 = box
    columns, rows = _cuts(x0, x1, side), _cuts(y0, y1, side)
    return [(left, top, right, bottom) for top, bottom in pairwise(rows) for left, right in pairwise(columns)]


def _cuts(low: float, high: float, side: float) -> list[float]:
    count = max(1, math.ceil((high - low) / side))
    return [low, *(float(round(low + (high - low) * i / count)) for i in range(1, count)), high]
