"""Seed masks: a first guess of every object's pixels, from haematoxylin alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from midog_qupath.learning.labels import Label, Mask, working_px
from midog_qupath.learning.stain import haematoxylin
from midog_qupath.models.student import BACKGROUND, NUCLEUS
from midog_qupath.units import Microns

#: Pixels that no loss looks at.
IGNORE = 255
#: Radius of the disc that stands for an object whose pixels cannot be told (and of the floor's masks).
DISC_RADIUS = Microns(3.0)
#: How far from the label's centre an object's pixels may reasonably lie.
_REACH = Microns(4.0)
_NUCLEUS_AREA_PX = (120, 4000)
_MIN_OBJECT_PX = 24

LabelMap = NDArray[np.uint8]


def seed_map(image: NDArray[np.uint8], exhaustive: Mask, labels: list[Label], nuclei: bool) -> LabelMap:
    """Pixel classes of an area (height, width) from haematoxylin seeds; :data:`IGNORE` where unknown.

    Parameters
    ----------
    image
        (height, width, 3) uint8 RGB at the working resolution.
    exhaustive
        (height, width) True where every mitotic figure is labelled: only there is anything else known.
    nuclei
        Whether normal nuclei get a class of their own or are background.
    """
    smooth = cv2.GaussianBlur(haematoxylin(image), (0, 0), 1.5)
    result = np.where(exhaustive, BACKGROUND, IGNORE).astype(np.uint8)
    if nuclei and exhaustive.any():
        result[nucleus_seeds(smooth) & exhaustive] = NUCLEUS
    for label in labels:
        y0, x0, y1, x1 = label.box
        paint(result, label, object_seed(smooth[y0:y1, x0:x1], label), smooth[y0:y1, x0:x1])
    return result


def disc_map(exhaustive: Mask, labels: list[Label]) -> LabelMap:
    """Pixel classes from discs of 3 µm at the labels' centres: the floor that pseudo-masks must beat."""
    result = np.where(exhaustive, BACKGROUND, IGNORE).astype(np.uint8)
    for label in labels:
        paint(result, label, disc(label), None)
    return result


def paint(target: LabelMap, label: Label, mask: Mask, smooth: NDArray[np.float32] | None) -> None:
    """Draw one object into ``target``: its pixels, and background around them inside the label's extent.

    Other dark pixels inside the extent may belong to a neighbour: they are ignored.
    """
    y0, x0, y1, x1 = label.box
    window = target[y0:y1, x0:x1]
    ring = label.extent & ~mask
    window[ring] = BACKGROUND
    if smooth is not None and mask.any():
        window[ring & (smooth > _dark_level(smooth, mask))] = IGNORE
    window[mask] = label.pixel_class


def _dark_level(smooth: NDArray[np.float32], mask: Mask) -> float:
    return 0.7 * float(np.median(smooth[mask]))


def disc(label: Label) -> Mask:
    """A disc of 3 µm around the label's centre, inside its extent and never empty."""
    y0, x0, y1, x1 = label.box
    rows, columns = np.ogrid[y0:y1, x0:x1]
    distance = np.hypot(rows + 0.5 - label.y, columns + 0.5 - label.x)
    mask = (distance <= working_px(DISC_RADIUS)) & label.extent
    return mask if mask.any() else distance == distance.min()


def object_seed(smooth: NDArray[np.float32], label: Label) -> Mask:
    """Pixels of a labelled object: its drawn outline, or the dark component nearest to the label's centre."""
    if label.is_outline and label.extent.any():
        return label.extent
    values = smooth[label.extent]
    if values.size < _MIN_OBJECT_PX:
        return disc(label)
    dark = (smooth > _otsu(values)) & label.extent
    return nearest_component(dark, label)


def nearest_component(dark: Mask, label: Label) -> Mask:
    """The one component of ``dark`` that is large and near the label's centre; a disc if there is none."""
    closed = cv2.morphologyEx(
        dark.astype(np.uint8), cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    )
    count, parts, stats, centres = cv2.connectedComponentsWithStats(closed, connectivity=4)
    if count < 2:
        return disc(label)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    offset = centres[1:] + 0.5 + (label.box[1] - label.x, label.box[0] - label.y)
    nearness = np.exp(-((offset**2).sum(axis=1)) / working_px(_REACH) ** 2)
    best = int(np.argmax(areas * nearness)) + 1
    mask = np.asarray(parts == best) & label.extent
    return mask if mask.sum() >= _MIN_OBJECT_PX else disc(label)


def nucleus_seeds(smooth: NDArray[np.float32]) -> Mask:
    """Nuclei of an area: darker than Otsu's threshold and than their surroundings, split by watershed.

    ``smooth``: (height, width) smoothed haematoxylin concentration.
    """
    blurred = cv2.GaussianBlur(smooth, (0, 0), 1.5)
    surroundings = cv2.blur(blurred, (121, 121), borderType=cv2.BORDER_REFLECT_101)
    threshold = _otsu(blurred[::4, ::4].ravel())
    dark = ((blurred > threshold) & (blurred > surroundings)).astype(np.uint8)
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
    parts = _split(ndimage.binary_fill_holes(opened).astype(np.uint8))
    areas = np.bincount(parts.ravel())
    keep = (areas >= _NUCLEUS_AREA_PX[0]) & (areas <= _NUCLEUS_AREA_PX[1])
    keep[0] = False
    return np.asarray(keep[parts])


def _split(binary: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Nuclei of a binary image numbered from 1; touching ones part midway between their centres.

    Centres are peaks of the distance transform. Parting midway is the watershed of cones over the centres;
    a watershed of the distance itself leaks along the plateaus of quantised relief.
    """
    distance = cv2.GaussianBlur(cv2.distanceTransform(binary, cv2.DIST_L2, 5), (0, 0), 2)
    peaks = (distance >= cv2.dilate(distance, np.ones((21, 21), np.uint8))) & (distance > 3)
    count, markers = cv2.connectedComponents(peaks.astype(np.uint8))
    if count < 2:
        return np.zeros(binary.shape, dtype=np.int32)
    nearest = ndimage.distance_transform_edt(markers == 0, return_distances=False, return_indices=True)
    owner = markers[tuple(nearest)]
    edge = owner != cv2.erode(owner.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    return np.where((binary > 0) & ~edge, owner, 0).astype(np.int32)


def _otsu(values: NDArray[np.float32]) -> float:
    """Otsu's threshold (IEEE Trans Syst Man Cybern 9, 1979) of float values."""
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if high <= low:
        return high
    scaled = np.clip((values - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return low + float(level) * (high - low) / 255
