"""Pixel classes of an area from the teacher's opinion and the labels.

An annotated object keeps its class and stays within its label's extent; inside exhaustively labelled
ground a pixel is normal nucleus or background where the teacher is confident, and ignored otherwise.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.ground import AreaGround
from midog_qupath.learning.labels import Label, Mask
from midog_qupath.learning.seeds import (
    IGNORE,
    LabelMap,
    disc_map,
    nearest_component,
    object_seed,
    paint,
    seed_map,
)
from midog_qupath.learning.stain import haematoxylin
from midog_qupath.models.student import BACKGROUND, NUCLEUS


def first_masks(area: AreaGround, kind: str, nuclei: bool) -> LabelMap:
    """Seed masks of an area, or discs for ``kind`` = ``disc``."""
    if kind == "disc":
        return disc_map(area.exhaustive, list(area.labels))
    return seed_map(np.asarray(area.pixels), area.exhaustive, list(area.labels), nuclei)


def pseudo_masks(
    area: AreaGround, probabilities: NDArray[np.float16], confidence: float, nuclei: bool
) -> LabelMap:
    """Pixel classes (height, width) of an area.

    Parameters
    ----------
    area
        Pixels, labels and exhaustively labelled ground.
    probabilities
        (4, height / stride, width / stride) teacher's class probabilities.
    confidence
        A pixel is a nucleus from this probability of not being background, background below one minus it.
    nuclei
        False: normal nuclei are background.
    """
    size = (area.row.width, area.row.height)
    background = cv2.resize(probabilities[0].astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    foreground = np.asarray(1 - background, dtype=np.float32)
    result = np.full(foreground.shape, IGNORE, dtype=np.uint8)
    result[area.exhaustive & (foreground < 1 - confidence)] = BACKGROUND
    sure = area.exhaustive & (foreground >= confidence)
    result[sure] = NUCLEUS if nuclei else BACKGROUND
    if not nuclei:
        result[area.exhaustive] = BACKGROUND
    for label in area.labels:
        y0, x0, y1, x1 = label.box
        window = np.ascontiguousarray(area.pixels[y0:y1, x0:x1])
        smooth = cv2.GaussianBlur(haematoxylin(window), (0, 0), 1.5)
        paint(result, label, _object_mask(foreground[y0:y1, x0:x1], smooth, label), smooth)
    return result


def _object_mask(foreground: NDArray[np.float32], smooth: NDArray[np.float32], label: Label) -> Mask:
    """The teacher's object at a label: one component inside the extent, the seed where it sees none."""
    if label.is_outline:
        return object_seed(smooth, label)
    seen = (foreground >= 0.5) & label.extent
    if not seen.any():
        return object_seed(smooth, label)
    return nearest_component(seen, label)
