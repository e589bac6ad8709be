"""Drawing in stain concentrations: patches with soft edges, outlines, textures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Patch:
    """Something to put on a canvas, all planes (n, n): ``cover`` (0..1) of what was there is replaced by
    the concentrations ``haematoxylin`` and ``eosin`` (already multiplied by the cover)."""

    cover: Plane
    haematoxylin: Plane
    eosin: Plane


class Canvas:
    """Two concentration planes of a field, (size, size)."""

    def __init__(self, haematoxylin: Plane, eosin: Plane) -> None:
        self.haematoxylin = haematoxylin
        self.eosin = eosin

    def put(self, patch: Patch, x: int, y: int) -> None:
        """Put the middle of a patch at pixel x, y; what reaches past the border is cut off."""
        side, half = patch.cover.shape[0], patch.cover.shape[0] // 2
        height, width = self.eosin.shape
        top, left = y - half, x - half
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
        if y0 >= y1 or x0 >= x1:
            return
        here, there = np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        kept = 1 - patch.cover[there]
        self.haematoxylin[here] = self.haematoxylin[here] * kept + patch.haematoxylin[there]
        self.eosin[here] = self.eosin[here] * kept + patch.eosin[there]


class Grain:
    """Ready-made noise from which patches cut their texture: cheaper than noise of their own."""

    def __init__(self, rng: Rng, size: int = 512) -> None:
        raw = rng.standard_normal((size, size), dtype=np.float32)
        self._planes = {scale: _normal(_blurred(raw, scale)) for scale in (1.0, 1.8, 3.5)}

    def cut(self, rng: Rng, side: int, scale: float) -> Plane:
        """(side, side) of noise of deviation 1 and correlation length ``scale``: 1.0, 1.8 or 3.5 pixels."""
        plane = self._planes[scale]
        top, left = rng.integers(0, plane.shape[0] - side, 2)
        return plane[top : top + side, left : left + side]


def smooth_noise(rng: Rng, size: int, scale: float) -> Plane:
    """Noise of mean 0, deviation 1 and correlation length ``scale`` (pixels), (size, size)."""
    coarse = int(size / scale) + 4
    raw = cv2.resize(
        rng.standard_normal((coarse, coarse), dtype=np.float32),
        None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC,
    )  # fmt: skip
    return _normal(np.asarray(raw[:size, :size], dtype=np.float32))


def step(distance: Plane, softness: float) -> Plane:
    """1 where ``distance`` (pixels) is negative, 0 where positive, a soft edge of ``softness`` between."""
    return np.asarray(
        1 / (1 + cv2.exp(np.clip(distance * np.float32(4 / softness), -20, 20))), dtype=np.float32
    )


def outline_distance(
    rng: Rng, side: int, axes: tuple[float, float], wobble: float, angle: float | None = None
) -> Plane:
    """Signed distance (pixels, negative inside, roughly) from a wobbling, turned ellipse in the middle.

    ``axes``: half axes; ``wobble``: how far the outline wanders, as a share of the radius;
    ``angle`` (radians) of the first axis, None = any.
    """
    angle = rng.uniform(0, np.pi) if angle is None else angle
    y, x = np.mgrid[:side, :side].astype(np.float32) - np.float32((side - 1) / 2)
    u = (x * np.cos(angle) + y * np.sin(angle)) / axes[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) / axes[1]
    radius, theta = cv2.cartToPolar(u.astype(np.float32), v.astype(np.float32))
    waves = [
        np.float32(wobble * rng.normal() / k) * np.cos(k * theta + np.float32(rng.uniform(0, 2 * np.pi)))
        for k in range(2, 6)
    ]
    edge = reduce(np.add, waves, np.float32(1))
    return np.asarray((radius / edge - 1) * np.float32(np.sqrt(axes[0] * axes[1])), dtype=np.float32)


def _blurred(raw: Plane, scale: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(raw, (0, 0), scale), dtype=np.float32)


def _normal(plane: Plane) -> Plane:
    return np.asarray((plane - plane.mean()) / (plane.std() + 1e-6), dtype=np.float32)
