"""The pixels of a labelled object, from what is dark, or seen by the teacher, around the label's centre."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.labels import Label, Mask, working_px
from midog_qupath.learning.nuclei import otsu
from midog_qupath.learning.stain import haematoxylin
from midog_qupath.units import Microns

#: Radius of the disc that stands for an object whose pixels cannot be told (and of the floor's masks).
DISC_RADIUS = Microns(3.0)
#: How far from the label's centre an object's pixels may reasonably lie.
_REACH = Microns(4.0)
_MIN_OBJECT_PX = 24
#: Haematoxylin is smoothed by this before objects are cut out of it; the filter reaches this far.
_SMOOTHING_PX, _FILTER_PX = 1.5, 6
#: What people leave between chromatin and their outline.
MARGIN = Microns(1.0)
#: Two plates of one figure differ in area by this factor at most, and lie this far from its centre.
_PLATES_ALIKE = 0.4
_OFF_CENTRE = Microns(1.5)


def disc(label: Label) -> Mask:
    """A disc of 3 µm around the label's centre, inside its extent and never empty."""
    y0, x0, y1, x1 = label.box
    rows, columns = np.ogrid[y0:y1, x0:x1]
    distance = np.hypot(rows + 0.5 - label.y, columns + 0.5 - label.x)
    mask = (distance <= working_px(DISC_RADIUS)) & label.extent
    return mask if mask.any() else distance == distance.min()


def dark_stain(image: NDArray[np.uint8], labels: Sequence[Label]) -> NDArray[np.float32]:
    """(height, width) smoothed haematoxylin of an RGB image in the windows of the labels, 0 elsewhere."""
    result = np.zeros(image.shape[:2], dtype=np.float32)
    for label in labels:
        y0, x0, y1, x1 = label.box
        top, left = max(y0 - _FILTER_PX, 0), max(x0 - _FILTER_PX, 0)
        wide = np.ascontiguousarray(image[top : y1 + _FILTER_PX, left : x1 + _FILTER_PX])
        size = (2 * _FILTER_PX + 1, 2 * _FILTER_PX + 1)
        smooth = cv2.GaussianBlur(haematoxylin(wide), size, _SMOOTHING_PX)
        result[y0:y1, x0:x1] = smooth[y0 - top : y1 - top, x0 - left : x1 - left]
    return result


def object_seeds(smooth: NDArray[np.float32], labels: Sequence[Label]) -> list[Mask]:
    """Pixels of the labelled objects of an area, each in the window ``label.box``."""
    windows = [(label, np.s_[label.box[0] : label.box[2], label.box[1] : label.box[3]]) for label in labels]
    return apart(labels, [object_seed(smooth[window], label) for label, window in windows])


def apart(labels: Sequence[Label], masks: Sequence[Mask]) -> list[Mask]:
    """The masks without shared pixels, each one 4-connected component inside its label's extent.

    A pixel of two objects belongs to the one with the nearer centre; of what falls apart the largest piece
    stays. An object that nothing would be left of (two labels in one place) keeps its mask.
    """
    cut = [mask & label.extent for mask, label in zip(masks, labels, strict=True)]
    for one, other in _meeting(labels):
        _share(labels[one], cut[one], labels[other], cut[other])
    return [largest_component(own if own.any() else mask) for own, mask in zip(cut, masks, strict=True)]


def _meeting(labels: Sequence[Label]) -> list[tuple[int, int]]:
    """Pairs of labels whose windows overlap."""
    if len(labels) < 2:
        return []
    y0, x0, y1, x1 = (np.array(side) for side in zip(*(label.box for label in labels), strict=True))
    meet = (y0[:, None] < y1) & (y0 < y1[:, None]) & (x0[:, None] < x1) & (x0 < x1[:, None])
    return [(int(one), int(other)) for one, other in np.argwhere(np.triu(meet, 1))]


def _share(one: Label, first: Mask, other: Label, second: Mask) -> None:
    (y0, x0), (y1, x1) = np.maximum(one.box[:2], other.box[:2]), np.minimum(one.box[2:], other.box[2:])
    mine = first[y0 - one.box[0] : y1 - one.box[0], x0 - one.box[1] : x1 - one.box[1]]
    yours = second[y0 - other.box[0] : y1 - other.box[0], x0 - other.box[1] : x1 - other.box[1]]
    rows, columns = np.ogrid[y0:y1, x0:x1]
    nearer = np.hypot(rows + 0.5 - one.y, columns + 0.5 - one.x) <= np.hypot(
        rows + 0.5 - other.y, columns + 0.5 - other.x
    )
    shared = mine & yours
    mine &= ~shared | nearer
    yours &= ~shared | ~nearer


def largest_component(mask: Mask) -> Mask:
    """The largest 4-connected piece of a mask; the mask itself where it is empty."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def object_seed(smooth: NDArray[np.float32], label: Label) -> Mask:
    """Pixels of a labelled object: its drawn outline, or the dark component nearest to the label's centre."""
    if label.is_outline and label.extent.any():
        return label.extent
    values = smooth[label.extent]
    if values.size < _MIN_OBJECT_PX:
        return disc(label)
    dark = (smooth > otsu(values)) & label.extent
    return _with_margin(figure_at(dark, label), label)


def _with_margin(chromatin: Mask, label: Label) -> Mask:
    """As people draw: around the chromatin with a margin, not along every arm of it."""
    side = 2 * round(working_px(MARGIN)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(chromatin.astype(np.uint8), disc) > 0) & label.extent


def figure_at(seen: Mask, label: Label) -> Mask:
    """The object at a label's centre among the pixels seen in its window; a disc if there is none.

    The component that is large and near the centre; where the centre lies between that and another one
    like it (the two plates of an anaphase), both and what is between them.
    """
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, ellipse)
    count, parts, stats, centres = cv2.connectedComponentsWithStats(closed, connectivity=4)
    if count < 2:
        return disc(label)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    offsets = centres[1:] + 0.5 + (label.box[1] - label.x, label.box[0] - label.y)
    nearness = np.exp(-((offsets**2).sum(axis=1)) / working_px(_REACH) ** 2)
    best = int(np.argmax(areas * nearness))
    partner = _other_plate(best, areas, offsets)
    mask = np.asarray(parts == best + 1)
    if partner is not None:
        mask = _hull(mask | (parts == partner + 1))
    mask = mask & label.extent
    return mask if mask.sum() >= _MIN_OBJECT_PX else disc(label)


def _other_plate(best: int, areas: NDArray[np.float64], offsets: NDArray[np.float64]) -> int | None:
    """The component with which the best one has its common middle much nearer to the label's centre."""
    alike = (areas >= _PLATES_ALIKE * areas[best]) & (areas <= areas[best] / _PLATES_ALIKE)
    alike[best] = False
    weight = (areas / (areas + areas[best]))[:, None]
    middles = np.hypot(*(weight * offsets + (1 - weight) * offsets[best]).T)
    middles[~alike] = np.inf
    partner = int(np.argmin(middles))
    off = float(np.hypot(*offsets[best]))
    return partner if off > working_px(_OFF_CENTRE) and middles[partner] < off / 2 else None


def _hull(mask: Mask) -> Mask:
    corners = cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32))
    return np.asarray(cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), corners, 1) > 0)
