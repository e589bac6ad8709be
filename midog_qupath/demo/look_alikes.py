"""What is mistaken for mitotic figures: dying cells, granulocytes, smudged and crushed nuclei, pigment.

As dark as mitoses, but with smooth outlines, balls in place of chromosome arms, or no cell around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

from midog_qupath.demo.canvas import Grain, Patch, Plane, Rng, outline_distance, step

#: Side of a patch in pixels.
SIDE = 96


def pyknotic(rng: Rng) -> Plane:
    """A shrunken, round, smooth nucleus."""
    axes = tuple(rng.uniform(5.5, 9.0) * np.array([1.0, rng.uniform(0.8, 1.0)]))
    return step(outline_distance(rng, SIDE, (axes[0], axes[1]), 0.03), rng.uniform(1.0, 2.0))


def apoptotic(rng: Rng) -> Plane:
    """Smooth balls of different size."""
    planes = [_ball(rng.uniform(4.0, 6.5), *rng.normal(0, 2.5, 2))]
    for _ in range(int(rng.integers(1, 6))):
        planes.append(_ball(rng.uniform(1.5, 3.8), *rng.normal(0, 6.5, 2)))
    return np.asarray(np.max(planes, axis=0), dtype=np.float32)


def granulocyte(rng: Rng) -> Plane:
    """Two to four smooth lobes in a row."""
    angle, place = rng.uniform(0, 2 * np.pi), np.zeros(2)
    planes = []
    for _ in range(int(rng.integers(2, 5))):
        planes.append(_ball(rng.uniform(3.2, 4.6), place[0], place[1]))
        angle += rng.normal(0, 0.9)
        place = place + np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(5.0, 7.0)
    return np.asarray(np.max(planes, axis=0), dtype=np.float32)


def smudged(rng: Rng) -> Plane:
    """A dense nucleus without structure, its edge blurred."""
    axes = (rng.uniform(9, 14), rng.uniform(6, 9))
    return step(outline_distance(rng, SIDE, axes, 0.15), rng.uniform(4.0, 7.0))


def crushed(rng: Rng) -> Plane:
    """A nucleus drawn out to a smooth, bent, pointed streak."""
    length, bend, angle = rng.uniform(15, 26), rng.normal(0, 0.012), rng.uniform(0, np.pi)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - np.float32((SIDE - 1) / 2)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    taper = np.clip(1 - np.square(along / length), 0, 1) * rng.uniform(3.0, 5.0)
    return step(np.asarray(np.abs(across - bend * along * along) - taper + 0.5, dtype=np.float32), 1.8)


def pigment(rng: Rng) -> Plane:
    """Fine grains of pigment or ink."""
    count = int(rng.integers(14, 36))
    spots = rng.normal(0, rng.uniform(4, 7), (count, 2))
    planes = [_ball(rng.uniform(0.9, 2.0), x, y) for x, y in spots]
    return np.asarray(np.max(planes, axis=0), dtype=np.float32)


LookAlike = Callable[[Rng], Plane]
#: How often each is met.
LOOK_ALIKES: Mapping[LookAlike, float] = MappingProxyType(
    {pyknotic: 0.28, apoptotic: 0.20, granulocyte: 0.14, smudged: 0.16, crushed: 0.14, pigment: 0.08}
)
#: Those that have eosinophilic cytoplasm around them, and often a halo.
DYING: frozenset[LookAlike] = frozenset({pyknotic, apoptotic})


def look_alike(rng: Rng, grain: Grain, kind: LookAlike) -> tuple[Patch, Polygon]:
    """The dark part of a look-alike and its outline in pixels from the middle."""
    cover = kind(rng)
    level = np.float32(rng.uniform(1.0, 1.65)) if kind is not smudged else np.float32(rng.uniform(0.9, 1.4))
    haematoxylin = level * cover * np.clip(1 + grain.cut(rng, SIDE, 3.5) * np.float32(0.06), 0.8, 1.2)
    eosin = cover * np.float32(1.2 if kind is pigment else rng.uniform(0.1, 0.35))
    return Patch(cover, np.asarray(haematoxylin, dtype=np.float32), eosin), _outline(cover)


def _ball(radius: float, x: float, y: float) -> Plane:
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32) - np.float32((SIDE - 1) / 2)
    return step(cv2.magnitude(columns - np.float32(x), rows - np.float32(y)) - np.float32(radius), 1.4)


def _outline(cover: Plane) -> Polygon:
    dark: NDArray[np.uint8] = (cover > 0.4).astype(np.uint8)
    contours, _ = cv2.findContours(dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0, :].astype(np.float64)
    outline = Polygon(hull + 0.5 - SIDE / 2) if len(hull) >= 3 else Polygon.from_bounds(-1, -1, 1, 1)
    return Polygon(outline.buffer(0.7, quad_segs=2).simplify(0.3).exterior)
