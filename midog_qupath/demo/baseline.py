"""What anyone would try first: dark spots of the right size. The generated project must defeat it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Ruifrok and Johnston's stain vectors (2001): haematoxylin, eosin.
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))


def otsu_detect(
    image: NDArray[np.uint8], darkness: float = 1.0, area_px: tuple[float, float] = (80, 1200)
) -> NDArray[np.float64]:
    """Centres (N, 2) x, y in pixels of components above Otsu's threshold on haematoxylin.

    ``darkness`` multiplies the threshold; ``area_px`` are the smallest and largest component.
    """
    first, second = (np.array(v) / np.linalg.norm(v) for v in _STAINS)
    third = np.cross(first, second)
    unmix = np.linalg.inv(np.stack([first, second, third / np.linalg.norm(third)]))
    density = -np.log10((image.astype(np.float32) + 1) / 256)
    haematoxylin = np.clip(density @ unmix[:, 0].astype(np.float32), 0, 2.0)
    scaled = cv2.GaussianBlur((haematoxylin * 127).astype(np.uint8), (0, 0), 1.0)
    level, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dark = (scaled > level * darkness).astype(np.uint8)
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, _, stats, centres = cv2.connectedComponentsWithStats(opened)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.asarray(centres[1:][(areas >= area_px[0]) & (areas <= area_px[1])], dtype=np.float64)
