"""Telling nuclei apart without learning: numbered nuclei from haematoxylin or from a probability map.

Each nucleus has a threshold of its own (:mod:`midog_qupath.learning.component_tree`), nuclei part where
there is a valley between them, and where there is none, at the waist of their outline.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from midog_qupath.learning.component_tree import (
    AREA_PX,
    Instances,
    Values,
    best_components,
    components,
    opened,
    shapes,
)
from midog_qupath.learning.labels import Mask
from midog_qupath.learning.stain import haematoxylin

#: All lengths here are in pixels of half the working resolution (0.5 µm): finer shows no more of a nucleus.
_LEVELS = 16
#: A nucleus is parted at its waist when the parts' ellipticity is higher by this.
_WAIST = 0.025
_REACH_PX = 3.0
#: Blocks in which large images are worked on, and how far a nucleus can reach over their borders.
_BLOCK_PX, _HALO_PX = 1024, 48


def nucleus_instances(concentration: Values, among: Mask | None = None) -> Instances:
    """Numbered nuclei of an area from haematoxylin alone.

    Parameters
    ----------
    concentration
        (height, width) haematoxylin at the working resolution, not smoothed.
    among
        The pixels that choose the thresholds, None for all.
    """
    half = cv2.GaussianBlur(_halved(concentration), (0, 0), 0.5)
    sample = half.ravel() if among is None else half[_halved(among.astype(np.float32)) == 1]
    dark = otsu(sample) if sample.size else np.inf
    if not (sample > dark).any():
        return np.zeros(concentration.shape, dtype=np.int32)
    lowest = (dark + float(sample[sample <= dark].mean())) / 2
    levels = np.linspace(lowest, float(np.percentile(sample, 99.5)), _LEVELS, endpoint=False)
    smooth = cv2.GaussianBlur(half, (0, 0), 0.5)

    def of_block(window: tuple[slice, slice]) -> Instances:
        return _nuclei(half[window], levels, opened(smooth[window] > dark, 3))

    return _restored(_by_blocks(half.shape, of_block), concentration.shape)


def instances(probability: Values, threshold: float = 0.5) -> Instances:
    """Numbered nuclei of a map of probabilities of being part of one.

    Parameters
    ----------
    probability
        (height, width) at the working resolution, 0..1.
    threshold
        What is at least this probable and large enough to be a nucleus belongs to one.
    """
    half = cv2.GaussianBlur(_halved(probability), (0, 0), 0.5)
    levels = np.linspace(threshold, 0.98, _LEVELS, endpoint=False)

    def of_block(window: tuple[slice, slice]) -> Instances:
        return _nuclei(half[window], levels, half[window] >= threshold)

    return _restored(_by_blocks(half.shape, of_block), probability.shape)


def otsu_instances(image: NDArray[np.uint8]) -> Instances:
    """The plainest nuclei of a (height, width, 3) image, to compare with: connected dark pixels.

    Otsu's threshold on smoothed haematoxylin (1.5 px).
    """
    smooth = cv2.GaussianBlur(haematoxylin(image), (0, 0), 1.5)
    return components((smooth > otsu(smooth.ravel())).astype(np.uint8))


def interiors(parts: Instances) -> Mask:
    """Pixels of numbered nuclei, without those where two nuclei touch."""
    lowest, highest = parts.astype(np.float32), parts.astype(np.float32)
    lowest[parts == 0] = np.inf
    square = np.ones((3, 3), np.uint8)
    touching = cv2.erode(lowest, square) < cv2.dilate(highest, square)
    return np.asarray((parts > 0) & ~touching)


def otsu(values: Values) -> float:
    """Otsu's threshold (IEEE Trans Syst Man Cybern 9, 1979) of float values (N,)."""
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if high <= low:
        return high
    scaled = np.clip((values - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return low + float(level) * (high - low) / 255


# ---- one block -----------------------------------------------------------------------------------


def _nuclei(values: Values, levels: NDArray[np.float64], foreground: Mask) -> Instances:
    """The best components, grown into the foreground, and what of it is large enough without them."""
    if not (values > levels[0]).any():
        return np.zeros(values.shape, dtype=np.int32)
    grown = _grown(best_components(values, levels), foreground)
    rest = components(opened(foreground & (grown == 0), 5).astype(np.uint8))
    areas = np.bincount(rest.ravel())
    fits = (areas >= AREA_PX[0]) & (areas <= AREA_PX[1])
    fits[0] = False
    return _parted_at_waist(np.where(fits[rest], rest + grown.max(initial=0), grown))


def _grown(parts: Instances, foreground: Mask) -> Instances:
    """Each foreground pixel within reach of a nucleus belongs to the nearest."""
    if not parts.any():
        return parts
    distance, owner = _nearest(parts)
    return np.where((parts > 0) | (foreground & (distance <= _REACH_PX)), owner, 0).astype(np.int32)


def _nearest(parts: Instances) -> tuple[Values, Instances]:
    """Distance to, and number of, the nearest numbered pixel."""
    distance, seeds = cv2.distanceTransformWithLabels(
        (parts == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    numbers = np.zeros(int(seeds.max()) + 1, dtype=np.int32)
    numbers[seeds[parts > 0]] = parts[parts > 0]
    return np.asarray(distance, dtype=np.float32), numbers[seeds]


def _parted_at_waist(parts: Instances) -> Instances:
    """Part objects midway between the centres of their lobes where the pieces are better ellipses."""
    inner = interiors(parts).astype(np.uint8)
    distance = cv2.GaussianBlur(cv2.distanceTransform(inner, cv2.DIST_L2, 5), (0, 0), 1)
    peaks = (distance >= cv2.dilate(distance, np.ones((11, 11), np.uint8))) & (distance > 2)
    lobes = components(peaks.astype(np.uint8))
    if not lobes.any():
        return parts
    _, owner = _nearest(lobes)
    joint = np.where(parts > 0, parts.astype(np.int64) * (int(lobes.max()) + 1) + owner, 0)
    found, flat = np.unique(np.append(joint.ravel(), 0), return_inverse=True)
    pieces = flat[:-1].reshape(parts.shape).astype(np.int32)
    whole = found // (int(lobes.max()) + 1)
    areas, ellipticity = shapes(parts)
    piece_areas, piece_ellipticity = shapes(pieces)
    mean = np.bincount(whole, piece_areas * piece_ellipticity, minlength=len(areas)) / np.maximum(areas, 1)
    smallest = np.full(len(areas), np.inf)
    np.minimum.at(smallest, whole, piece_areas)
    better = (mean > ellipticity + _WAIST) & (smallest >= AREA_PX[0])
    better[0] = False
    return _renumbered(np.where(better[parts], pieces + parts.max(initial=0), parts))


# ---- pixels --------------------------------------------------------------------------------------


def _renumbered(parts: Instances) -> Instances:
    present = np.unique(np.append(parts.ravel(), 0))
    return np.searchsorted(present, parts).astype(np.int32)


def _halved(values: Values) -> Values:
    height, width = values.shape
    size = (max(width // 2, 1), max(height // 2, 1))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _restored(parts: Instances, shape: tuple[int, ...]) -> Instances:
    """Numbers at the working resolution."""
    rows = np.minimum(np.arange(shape[0]) * parts.shape[0] // shape[0], parts.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) * parts.shape[1] // shape[1], parts.shape[1] - 1)
    return np.asarray(parts[np.ix_(rows, columns)])


def _by_blocks(shape: tuple[int, ...], of_block: Callable[[tuple[slice, slice]], Instances]) -> Instances:
    """Work in overlapping blocks; a nucleus belongs to the block that holds the middle of its box."""
    result = np.zeros(shape, dtype=np.int32)
    for top in range(0, shape[0], _BLOCK_PX):
        for left in range(0, shape[1], _BLOCK_PX):
            y0, x0 = max(top - _HALO_PX, 0), max(left - _HALO_PX, 0)
            y1, x1 = min(top + _BLOCK_PX + _HALO_PX, shape[0]), min(left + _BLOCK_PX + _HALO_PX, shape[1])
            parts = of_block((slice(y0, y1), slice(x0, x1)))
            own = _with_middle_in(parts, (top - y0, left - x0))
            target = result[y0:y1, x0:x1]
            free = (target == 0) & own[parts]
            target[free] = parts[free] + result.max(initial=0)
    return _renumbered(result)


def _with_middle_in(parts: Instances, corner: tuple[int, int]) -> NDArray[np.bool_]:
    """Which numbers have the middle of their box in the block that begins at ``corner``."""
    inside = np.zeros(int(parts.max(initial=0)) + 1, dtype=bool)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if box is not None:
            middle = [(side.start + side.stop) // 2 - c for side, c in zip(box, corner, strict=True)]
            inside[number] = all(0 <= place < _BLOCK_PX for place in middle)
    return inside
