"""Pixel classes of an area from the teacher's opinion and the labels.

An annotated object keeps its class and stays within its label's extent; inside exhaustively labelled
ground a pixel is normal nucleus or background where the teacher is confident, and ignored otherwise.

The surroundings of a mosaic's objects are not labelled. A mitotic figure among them is rare (one in some
hundred nuclei), so the teacher, whose loss tolerates wrong labels, may take their nuclei for normal; the
student learns from those only where that teacher sees no mitotic figure. Without them every negative
would come from the few images that are labelled whole, and the look of a scanner would tell the class.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.ground import AreaGround
from midog_qupath.learning.labels import Label, Mask
from midog_qupath.learning.objects import apart, dark_stain, figure_at, object_seed, object_seeds
from midog_qupath.learning.recipe import TeacherRecipe
from midog_qupath.learning.seeds import IGNORE, PADDING, LabelMap, disc_map, paint, seed_map
from midog_qupath.models.student import BACKGROUND, MITOSIS, NUCLEUS


def first_masks(area: AreaGround, recipe: TeacherRecipe) -> LabelMap:
    """Seed masks of an area, or discs for ``masks = "disc"``."""
    if recipe.masks == "disc":
        return disc_map(area.exhaustive, list(area.labels))
    cells = area.cells if recipe.surroundings else []
    return seed_map(np.asarray(area.pixels), area.exhaustive, cells, list(area.labels), recipe.normal_nuclei)


def pseudo_masks(area: AreaGround, probabilities: NDArray[np.float16], recipe: TeacherRecipe) -> LabelMap:
    """Pixel classes (height, width) of an area.

    Parameters
    ----------
    area
        Pixels, labels and exhaustively labelled ground.
    probabilities
        (4, height / stride, width / stride) teacher's class probabilities.
    recipe
        A pixel is a nucleus from ``confidence`` of not being background, background below one minus it.
    """
    foreground = 1 - enlarged(probabilities[BACKGROUND], area)
    result = np.full(foreground.shape, IGNORE, dtype=np.uint8)
    ground = area.exhaustive | _undoubted(area, enlarged(probabilities[MITOSIS], area), recipe)
    result[ground & (foreground < 1 - recipe.confidence)] = BACKGROUND
    result[ground & (foreground >= recipe.confidence)] = NUCLEUS
    if not recipe.normal_nuclei:
        result[ground] = BACKGROUND
    smooth = dark_stain(np.asarray(area.pixels), area.labels)
    paint(result, area.labels, object_masks(area, foreground, smooth), smooth)
    return result


def object_masks(
    area: AreaGround, foreground: NDArray[np.float32] | None, smooth: NDArray[np.float32]
) -> list[Mask]:
    """Pixels of each labelled object in the window ``label.box``: one component inside the label's extent.

    Parameters
    ----------
    foreground
        (height, width) the teacher's probability of not being background; None: from the seeds alone.
    smooth
        (height, width) smoothed haematoxylin, needed inside the labels' windows only.
    """
    if foreground is None:
        return object_seeds(smooth, area.labels)
    masks = []
    for label in area.labels:
        y0, x0, y1, x1 = label.box
        masks.append(_object_mask(foreground[y0:y1, x0:x1], smooth[y0:y1, x0:x1], label))
    return apart(area.labels, masks)


def _undoubted(area: AreaGround, mitosis: NDArray[np.float32], recipe: TeacherRecipe) -> Mask:
    """The surroundings of a mosaic's objects where the teacher sees no mitotic figure."""
    sure = np.zeros(mitosis.shape, dtype=bool)
    if not recipe.surroundings:
        return sure
    for y0, x0, y1, x1 in area.cells:
        within = np.s_[y0:y1, x0:x1]
        # A doubt concerns the whole figure, not only its darkest pixels.
        doubt = cv2.dilate(mitosis[within], np.ones((17, 17), np.uint8))
        padding = np.asarray(area.pixels[within]).max(axis=2) < PADDING
        sure[within] = (doubt < recipe.doubt) & ~padding
    return sure


def enlarged(probability: NDArray[np.float16], area: AreaGround) -> NDArray[np.float32]:
    """A class probability (height / stride, width / stride) at the resolution of its area."""
    size = (area.row.width, area.row.height)
    return np.asarray(cv2.resize(probability.astype(np.float32), size, interpolation=cv2.INTER_LINEAR))


def _object_mask(foreground: NDArray[np.float32], smooth: NDArray[np.float32], label: Label) -> Mask:
    """The teacher's object at a label: one component inside the extent, the seed where it sees none."""
    if label.is_outline:
        return object_seed(smooth, label)
    seen = (foreground >= 0.5) & label.extent
    if not seen.any():
        return object_seed(smooth, label)
    return figure_at(seen, label)
