"""What anyone would try first: dark spots of the right size. The generated project must defeat it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.stain import haematoxylin
from midog_qupath.units import MicronsPerPixel


@dataclass(frozen=True)
class SpotRule:
    """``darkness`` multiplies Otsu's threshold; ``smallest``, ``largest``: area in square microns."""

    darkness: float = 1.2
    smallest: float = 8.0
    largest: float = 40.0


def otsu_detect(
    image: NDArray[np.uint8], mpp: MicronsPerPixel, rule: SpotRule = SpotRule()
) -> NDArray[np.float64]:
    """Centres (n, 2) x, y in pixels of spots above Otsu's threshold on haematoxylin.

    Haematoxylin by colour deconvolution, a little blur, Otsu (IEEE Trans SMC 9 (1979) 62-66), opening,
    connected components within the limits of size.
    """
    density = np.clip(cv2.GaussianBlur(haematoxylin(image), (0, 0), 0.25 / mpp), 0, 2)
    grey = np.rint(density * 127).astype(np.uint8)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dark = (grey > level * rule.darkness).astype(np.uint8)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, disc)
    _, _, stats, centres = cv2.connectedComponentsWithStats(opened)
    areas = stats[1:, cv2.CC_STAT_AREA] * mpp * mpp
    return np.asarray(centres[1:][(areas >= rule.smallest) & (areas <= rule.largest)], dtype=np.float64)
