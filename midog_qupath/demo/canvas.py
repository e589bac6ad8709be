"""Drawing in stain concentrations: soft-edged shapes, textures, and what they look like through a scanner."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Stain:
    """How a laboratory and a scanner render tissue.

    ``haematoxylin``, ``eosin``: optical densities in red, green, blue of concentration 1; ``blur`` in pixels,
    ``noise`` in grey levels, ``glass``: grey of clear glass.
    """

    name: str
    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    blur: float
    noise: float
    glass: tuple[int, int, int]


#: Three laboratories: a blue-violet stain, a reddish one, a pale one with a soft scanner.
STAINS = (
    Stain("lab-a", (0.62, 0.70, 0.30), (0.08, 0.42, 0.20), 0.8, 3.0, (244, 243, 244)),
    Stain("lab-b", (0.54, 0.74, 0.40), (0.06, 0.42, 0.24), 0.6, 4.5, (240, 236, 240)),
    Stain("lab-c", (0.66, 0.58, 0.22), (0.06, 0.30, 0.12), 1.2, 2.5, (248, 248, 246)),
)


def render(haematoxylin: Plane, eosin: Plane, stain: Stain, rng: Rng) -> NDArray[np.uint8]:
    """uint8 RGB (h, w, 3) of two concentration planes (h, w), by Beer and Lambert's law."""
    density = haematoxylin[..., None] * np.array(stain.haematoxylin, dtype=np.float32)
    density = density + eosin[..., None] * np.array(stain.eosin, dtype=np.float32)
    light = np.array(stain.glass, dtype=np.float32) * np.power(np.float32(10), -density)
    light = cv2.GaussianBlur(light, (0, 0), stain.blur)
    light += rng.normal(0, stain.noise, light.shape).astype(np.float32)
    return np.asarray(np.clip(light, 0, 255), dtype=np.uint8)


def smooth_noise(rng: Rng, size: int, scale: float) -> Plane:
    """Gaussian noise of a correlation length ``scale`` (pixels), mean 0, deviation 1, (size, size)."""
    coarse = max(4, int(size / scale) + 2)
    field = cv2.resize(
        rng.normal(0, 1, (coarse, coarse)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), dtype=np.float32)


def blob(rng: Rng, size: int, axes: tuple[float, float], angle: float, roughness: float) -> Plane:
    """A filled shape in the middle of a (size, size) plane, 1 inside, soft at the edge.

    Parameters
    ----------
    axes
        Half axes in pixels.
    angle
        Radians.
    roughness
        How far the outline wanders, as a share of its distance from the centre; 0 is an ellipse.
    """
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2).astype(np.float32)
    u = (x * np.cos(angle) + y * np.sin(angle)) / axes[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) / axes[1]
    radius, theta = np.hypot(u, v), np.arctan2(v, u)
    edge = np.ones_like(radius)
    if roughness:
        for wave in range(3, 14):
            edge += roughness / np.sqrt(wave) * rng.normal() * np.cos(wave * theta + rng.uniform(0, 6.28))
    softness = 1.2 / min(axes)
    return np.asarray(1 / (1 + np.exp(np.clip((radius - edge) / softness * 2, -30, 30))), dtype=np.float32)


def stamp(target: Plane, patch: Plane, x: float, y: float, mode: str) -> None:
    """Put a patch centred at x, y into a plane: ``max``, or ``fade`` (multiply by 1 - patch)."""
    half = patch.shape[0] // 2
    top, left = round(y) - half, round(x) - half
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + patch.shape[0], target.shape[0]), min(left + patch.shape[1], target.shape[1])
    if y1 <= y0 or x1 <= x0:
        return
    part = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    window = target[y0:y1, x0:x1]
    target[y0:y1, x0:x1] = np.maximum(window, part) if mode == "max" else window * (1 - part)
