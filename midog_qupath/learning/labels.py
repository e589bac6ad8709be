"""Where the labelled objects and the exhaustively labelled ground lie in a block of stored pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.models.student import HARD_NEGATIVE, MITOSIS
from midog_qupath.units import WORKING_MPP, Microns

#: A point label says that the object lies within this distance of it.
POINT_EXTENT = Microns(8.0)
#: Shapes whose outline is the object itself; the others only hold it somewhere inside.
_OUTLINES = frozenset({"polygon", "geometry"})

Mask = NDArray[np.bool_]
#: y0, x0, y1, x1 in stored pixels of an area.
Window: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Label:
    """One labelled object of an area; positions in stored pixels of the area.

    ``box``: (y0, x0, y1, x1) of the window that holds the extent, inside the area.
    ``extent``: boolean mask of that window. ``is_outline``: the extent is the object's own outline.
    ``atypical``: share of votes for atypical (0 or 1 without votes), None where the type is unknown.
    """

    y: float
    x: float
    pixel_class: int
    box: Window
    extent: Mask
    is_outline: bool
    atypical: float | None
    row: ObjectRow


def working_px(length: Microns) -> float:
    """Length in working pixels of ``length`` microns."""
    return length / WORKING_MPP


def area_labels(area: AreaRow, objects: list[ObjectRow], soft: bool = True) -> list[Label]:
    """The objects whose centre lies in this area, in stored pixels; their extents end with the area."""
    labels = (_label(area, row, soft) for row in objects)
    return [label for label in labels if label is not None]


def _label(area: AreaRow, row: ObjectRow, soft: bool) -> Label | None:
    x, y = _centre(area, row)
    if not _holds(area, x, y):
        return None
    shape = _shape(area, row, x, y)
    box = _inside(area, shape)
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    mask = rasterise(shape, box)
    pixel_class = HARD_NEGATIVE if row.role == "non_mitosis" else MITOSIS
    is_outline = row.polygon is not None and row.shape in _OUTLINES
    return Label(y, x, pixel_class, box, mask, is_outline, _atypical(row, soft), row)


def _centre(area: AreaRow, row: ObjectRow) -> tuple[float, float]:
    """x, y in stored pixels of the area."""
    return (row.x - area.x0) / area.downsample, (row.y - area.y0) / area.downsample


def _holds(area: AreaRow, x: float, y: float) -> bool:
    return 0 <= x < area.width and 0 <= y < area.height


def _inside(area: AreaRow, shape: BaseGeometry) -> Window:
    """The box of a shape as far as it lies in an area; without pixels where it does not."""
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(shape.bounds[:2]), *np.ceil(shape.bounds[2:])))
    return max(y0, 0), max(x0, 0), max(0, min(y1, area.height)), max(0, min(x1, area.width))


def _shape(area: AreaRow, row: ObjectRow, x: float, y: float) -> BaseGeometry:
    if row.polygon is None:
        return shapely.Point(x, y).buffer(working_px(POINT_EXTENT))
    outline = shapely.from_wkb(row.polygon)
    return shapely.transform(outline, lambda xy: (xy - (area.x0, area.y0)) / area.downsample)


def _atypical(row: ObjectRow, soft: bool) -> float | None:
    if row.role not in ("normal", "atypical"):
        return None
    if soft and row.votes_total:
        return (row.votes_atypical or 0) / row.votes_total
    return float(row.role == "atypical")


def rasterise(shape: BaseGeometry, box: Window) -> Mask:
    """Boolean mask of a polygonal shape (stored pixels) inside the window (y0, x0, y1, x1).

    The pixels that it covers, and those that its border runs through.
    """
    y0, x0, y1, x1 = box
    canvas = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    for part in shapely.get_parts(shape):
        if isinstance(part, Polygon):
            rings = [part.exterior, *part.interiors]
            # OpenCV counts from the middle of the first pixel, stored pixels count from its corner.
            corners = [
                np.round((np.array(r.coords) - (x0 + 0.5, y0 + 0.5)) * 16).astype(np.int32) for r in rings
            ]
            cv2.fillPoly(canvas, corners, 1, shift=4)
    return canvas.astype(bool)


def exhaustive_mask(area: AreaRow, image: ImageRow, objects: list[ObjectRow]) -> Mask:
    """(height, width) True where every mitotic figure is labelled, by a label of this area.

    Not so where an object reaches into this area whose centre, and so its label, lies in the next one.
    """
    known = _labelled_ground(area, image)
    if known.any():
        for row in objects:
            y0, x0, y1, x1 = _beyond(area, row)
            known[y0:y1, x0:x1] = False
    return known


def _beyond(area: AreaRow, row: ObjectRow) -> Window:
    """What of this area is nearest to an object of the next one: its box and 8 µm around its centre."""
    x, y = _centre(area, row)
    if _holds(area, x, y):
        return (0, 0, 0, 0)
    around = working_px(POINT_EXTENT)
    square = shapely.box(x - around, y - around, x + around, y + around)
    return _inside(area, shapely.GeometryCollection([_shape(area, row, x, y), square]))


def _labelled_ground(area: AreaRow, image: ImageRow) -> Mask:
    if image.extent == "whole":
        return np.ones((area.height, area.width), dtype=bool)
    if image.extent == "objects" or image.region_polygons is None:
        return np.zeros((area.height, area.width), dtype=bool)
    regions = shapely.transform(
        shapely.from_wkb(image.region_polygons), lambda xy: (xy - (area.x0, area.y0)) / area.downsample
    )
    return rasterise(regions, (0, 0, area.height, area.width))
