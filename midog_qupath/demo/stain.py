"""How a laboratory and a scanner show tissue: stain vectors, light, optics, sensor, compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.demo.canvas import Plane, Rng


@dataclass(frozen=True)
class Stain:
    """One domain.

    ``haematoxylin``, ``eosin``: optical densities (base 10) in red, green, blue of concentration 1;
    ``strength``: concentrations of both, relative; ``glass``: RGB of clear glass; ``blur``: deviation of
    the optics in pixels; ``noise``: deviation of the sensor in grey levels; ``jpeg``: quality, None =
    not compressed.
    """

    name: str
    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    strength: tuple[float, float]
    glass: tuple[int, int, int]
    blur: float
    noise: float
    jpeg: int | None


#: A violet stain, a reddish one, a pale and bluish one on a soft scanner, a pink one, a dark one.
STAINS: tuple[Stain, ...] = (
    Stain("violet", (0.64, 0.72, 0.29), (0.09, 0.80, 0.50), (1.0, 0.85), (246, 242, 247), 0.9, 3.0, 85),
    Stain("red", (0.50, 0.76, 0.42), (0.12, 0.78, 0.60), (1.05, 1.0), (242, 236, 234), 0.7, 5.0, None),
    Stain("pale", (0.66, 0.60, 0.36), (0.12, 0.62, 0.30), (0.9, 0.75), (240, 243, 244), 1.2, 2.5, 92),
    Stain("pink", (0.70, 0.68, 0.22), (0.05, 0.72, 0.40), (0.9, 1.1), (250, 246, 248), 0.8, 3.5, 75),
    Stain("dark", (0.60, 0.74, 0.32), (0.20, 0.85, 0.42), (1.25, 1.0), (236, 230, 238), 1.0, 4.0, 80),
)  # fmt: skip


def exposed(haematoxylin: Plane, eosin: Plane, stain: Stain, rng: Rng) -> NDArray[np.uint8]:
    """uint8 RGB (h, w, 3) of two concentration planes (h, w) by Beer and Lambert's law, as a scanner sees it.

    Every slide of a laboratory differs a little: strength of both stains and of the light.
    """
    drift = rng.uniform(0.92, 1.08, 2)
    light = np.array(stain.glass, dtype=np.float32) * np.float32(rng.uniform(0.97, 1.02))
    planes = []
    for channel in range(3):
        density = haematoxylin * np.float32(stain.haematoxylin[channel] * stain.strength[0] * drift[0])
        density += eosin * np.float32(stain.eosin[channel] * stain.strength[1] * drift[1])
        planes.append(cv2.exp(density * np.float32(-np.log(10))) * light[channel])
    seen = cv2.GaussianBlur(cv2.merge(planes), (0, 0), stain.blur)
    seen += rng.standard_normal(seen.shape, dtype=np.float32) * np.float32(stain.noise)
    image = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    return image if stain.jpeg is None else _compressed(image, stain.jpeg)


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
