"""Round dark things in an image, each at the threshold that suits it best.

An image thresholded at rising levels falls into a tree of components. Of each branch the components are
kept that look most like nuclei: round, with a steep edge, and rather large than many small ones.
Lengths are in pixels of half the working resolution (0.5 µm).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.labels import Mask

#: (height, width) pixels numbered by nucleus, 0 = none.
Instances = NDArray[np.int32]
Values = NDArray[np.float32]

#: Smallest and largest nucleus, 7.5 to 250 µm².
AREA_PX = (30, 1000)
_HOLE_PX = 100
#: Ellipticity below 1 minus this is no nucleus at all (two touching discs have 0.9).
_TOLERANCE = 0.25


@dataclass(frozen=True)
class _Level:
    """Components above one threshold: their pixels numbered from 1, and how good a nucleus each would be."""

    parts: Instances
    worth: NDArray[np.float64]


def best_components(values: Values, levels: NDArray[np.float64]) -> Instances:
    """Number the components that are the best choice in the tree of thresholds.

    Parameters
    ----------
    values
        (height, width), high inside nuclei.
    levels
        Rising thresholds.
    """
    gradient = cv2.magnitude(
        cv2.Sobel(values, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(values, cv2.CV_32F, 0, 1, scale=1 / 8)
    )
    tree = [_level(values, gradient, level) for level in levels]
    result = np.zeros(values.shape, dtype=np.int32)
    for level, kept in zip(tree, _kept(tree), strict=True):
        taken = level.parts[result > 0]
        kept[taken] = False
        numbers = np.where(kept, np.cumsum(kept) + result.max(initial=0), 0).astype(np.int32)
        result = np.maximum(result, numbers[level.parts])
    return result


def _level(values: Values, gradient: Values, level: float) -> _Level:
    binary = opened(_holes_filled((values > level).astype(np.uint8)), 5).astype(np.uint8)
    parts = components(binary)
    areas, ellipticity = shapes(parts)
    edge = np.flatnonzero((binary > 0) & (cv2.erode(binary, np.ones((3, 3), np.uint8)) == 0))
    owner = parts.ravel()[edge]
    pixels = np.maximum(np.bincount(owner, minlength=len(areas)), 1)
    steepness = np.bincount(owner, gradient.ravel()[edge], minlength=len(areas)) / pixels
    roundness = np.clip(1 - (1 - ellipticity) / _TOLERANCE, 0, 1)
    fits = (areas >= AREA_PX[0]) & (areas <= AREA_PX[1])
    # The root of the area: a nucleus is worth more than the clumps of chromatin in it, but not more than
    # two nuclei that have taken its place.
    return _Level(parts, np.where(fits, steepness * roundness * np.sqrt(areas), 0.0))


def _kept(tree: list[_Level]) -> list[NDArray[np.bool_]]:
    """Which components are worth at least as much as the best choice among those inside them."""
    kept: list[NDArray[np.bool_]] = []
    inside: NDArray[np.float64] = np.zeros(len(tree[-1].worth))
    for index in range(len(tree) - 1, -1, -1):
        level = tree[index]
        keep = (level.worth > 0) & (level.worth >= inside)
        keep[0] = False
        kept.append(keep)
        best = np.where(keep, level.worth, inside)
        if index:
            outer = tree[index - 1]
            parents = np.zeros(len(best), dtype=np.int64)
            seen = level.parts > 0
            parents[level.parts[seen]] = outer.parts[seen]
            inside = np.bincount(parents[1:], best[1:], minlength=len(outer.worth)).astype(np.float64)
    return kept[::-1]


def shapes(parts: Instances) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area and ellipticity of numbered objects (index 0: nothing).

    Ellipticity: the area of an ellipse with the same second moments as the object into the object's own;
    1 for an ellipse, less for everything else.
    """
    where = np.flatnonzero(parts)
    owner = parts.ravel()[where]
    y, x = (axis.astype(np.float64) for axis in np.divmod(where, parts.shape[1]))
    count = int(parts.max(initial=0)) + 1
    areas = np.bincount(owner, minlength=count).astype(np.float64)
    some = np.maximum(areas, 1)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(owner, values, minlength=count) / some

    my, mx = mean(y), mean(x)
    # A pixel is a square: it has a spread of its own.
    vy, vx, cov = mean(y * y) - my**2 + 1 / 12, mean(x * x) - mx**2 + 1 / 12, mean(x * y) - mx * my
    return areas, areas / (4 * np.pi * np.sqrt(np.maximum(vy * vx - cov**2, 1 / 144)))


def components(binary: NDArray[np.uint8]) -> Instances:
    """4-connected pieces of a binary image, numbered from 1."""
    return np.asarray(cv2.connectedComponents(binary, connectivity=4)[1], dtype=np.int32)


def opened(mask: Mask, side: int) -> Mask:
    """A mask without what a disc of ``side`` pixels does not fit into."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc) > 0)


def _holes_filled(binary: NDArray[np.uint8]) -> Mask:
    """Fill small holes: pale chromatin inside dark rims (not the ground between nuclei in a ring)."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(1 - binary, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= _HOLE_PX
    small[0] = False
    return np.asarray((binary > 0) | small[parts])
