"""Pseudo-masks to look at and to count: of each area its pixel classes, labelled objects and nuclei."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.component_tree import Instances
from midog_qupath.learning.ground import AreaGround
from midog_qupath.learning.labels import Mask, Window
from midog_qupath.learning.nuclei import instances
from midog_qupath.learning.objects import apart, dark_stain, disc, largest_component
from midog_qupath.learning.pseudo_masks import (
    enlarged,
    first_masks,
    object_masks,
    pseudo_masks,
)
from midog_qupath.learning.recipe import TeacherRecipe
from midog_qupath.learning.seeds import IGNORE, LabelMap
from midog_qupath.models.student import BACKGROUND, HARD_NEGATIVE, MITOSIS, NUCLEUS

#: Contours (RGB): mitosis red, look-alike amber, nucleus green, where to look white.
_COLOURS = {MITOSIS: (214, 39, 40), HARD_NEGATIVE: (255, 194, 10), NUCLEUS: (0, 130, 60)}
_EXTENT_COLOUR = (255, 255, 255)
_SHADE = np.array((90, 110, 140), dtype=np.float32)
_PAGE_PX = 1024


@dataclass(frozen=True)
class AreaMasks:
    """What training would learn from an area.

    ``classes``: (height, width) pixel classes. ``objects``: of each label of the area its mask in the window
    ``label.box``. ``nuclei``: (height, width) normal nuclei, numbered from 1.
    """

    area: AreaGround
    classes: LabelMap
    objects: tuple[Mask, ...]
    nuclei: Instances


@dataclass(frozen=True)
class MaskCounts:
    """Labelled ``objects``; ``whole``: those with one non-empty component inside their extent.

    ``ground_px``: pixels of ground of which something is known, ``ignored_px``: those that are left out.
    """

    objects: int = 0
    whole: int = 0
    nuclei: int = 0
    ground_px: int = 0
    ignored_px: int = 0

    def __add__(self, other: MaskCounts) -> MaskCounts:
        mine, theirs = vars(self).values(), vars(other).values()
        return MaskCounts(*(a + b for a, b in zip(mine, theirs, strict=True)))

    @property
    def share_whole(self) -> float:
        """Share of the objects that are whole, 1 without any."""
        return self.whole / self.objects if self.objects else 1.0

    @property
    def share_ignored(self) -> float:
        """Share of the ground that no loss looks at, 0 without any."""
        return self.ignored_px / self.ground_px if self.ground_px else 0.0


def masks_of(area: AreaGround, opinion: NDArray[np.float16] | None, recipe: TeacherRecipe) -> AreaMasks:
    """The masks of an area.

    Parameters
    ----------
    opinion
        (4, height / stride, width / stride) the teacher's class probabilities; None for the first masks of
        the recipe (seeds or discs).
    """
    if opinion is None:
        classes, foreground = first_masks(area, recipe), np.ones(area.exhaustive.shape, dtype=np.float32)
    else:
        classes, foreground = pseudo_masks(area, opinion, recipe), 1 - enlarged(opinion[BACKGROUND], area)
    if recipe.masks == "disc":
        objects = apart(area.labels, [disc(label) for label in area.labels])
    else:
        seen = None if opinion is None else foreground
        objects = object_masks(area, seen, dark_stain(np.asarray(area.pixels), area.labels))
    # Pixel classes decide what is a nucleus; the opinion only where one ends and the next begins.
    certain = np.where(classes == NUCLEUS, foreground, 0).astype(np.float32)
    return AreaMasks(area, classes, tuple(objects), instances(certain, recipe.confidence))


def count(masks: AreaMasks) -> MaskCounts:
    """Objects, nuclei and ground of an area."""
    ground = known_ground(masks.area)
    whole = sum(
        bool(mask.any() and not (mask & ~label.extent).any() and (largest_component(mask) == mask).all())
        for label, mask in zip(masks.area.labels, masks.objects, strict=True)
    )
    return MaskCounts(
        objects=len(masks.objects),
        whole=whole,
        nuclei=int(masks.nuclei.max(initial=0)),
        ground_px=int(ground.sum()),
        ignored_px=int((ground & (masks.classes == IGNORE)).sum()),
    )


def known_ground(area: AreaGround) -> Mask:
    """(height, width) where anything is known: labelled exhaustively, a labelled cell, a label's extent."""
    ground = area.exhaustive.copy()
    for y0, x0, y1, x1 in area.cells:
        ground[y0:y1, x0:x1] = True
    for label in area.labels:
        y0, x0, y1, x1 = label.box
        ground[y0:y1, x0:x1] |= label.extent
    return ground


def pages(area: AreaGround) -> list[Window]:
    """Windows (y0, x0, y1, x1) of at most 1024 px that together show all known ground, none of them empty.

    In a mosaic they end at borders of cells.
    """
    side = _PAGE_PX
    if area.image.cell_px is not None:
        cell = round(area.image.cell_px / area.row.downsample)
        side = max(_PAGE_PX // cell, 1) * cell
    elif max(area.row.height, area.row.width) <= 1.5 * _PAGE_PX:
        side = max(area.row.height, area.row.width)
    ground = known_ground(area)
    corners = [(y, x) for y in range(0, area.row.height, side) for x in range(0, area.row.width, side)]
    windows = [(y, x, min(y + side, area.row.height), min(x + side, area.row.width)) for y, x in corners]
    return [(y0, x0, y1, x1) for y0, x0, y1, x1 in windows if ground[y0:y1, x0:x1].any()]


def overlay(masks: AreaMasks, window: Window) -> NDArray[np.uint8]:
    """(height, width, 3) RGB of a window: contours by class, extents of labels, ignored pixels shaded.

    Ground of which nothing is known is ignored too.
    """
    y0, x0, y1, x1 = window
    within = np.s_[y0:y1, x0:x1]
    image = np.array(masks.area.pixels[within])
    ignored = masks.classes[within] == IGNORE
    image[ignored] = (0.5 * image[ignored] + 0.5 * _SHADE).astype(np.uint8)
    image[_inner_edge(masks.nuclei[within])] = _COLOURS[NUCLEUS]
    for row, column, colour in _outlines(masks):
        inside = (row >= y0) & (row < y1) & (column >= x0) & (column < x1)
        image[row[inside] - y0, column[inside] - x0] = colour
    return image


def _outlines(
    masks: AreaMasks,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int, int]]]:
    """Rows, columns (of the area) and colour of the edges of extents and objects, objects last."""
    pairs = list(zip(masks.area.labels, masks.objects, strict=True))
    drawn = [(label, label.extent, _EXTENT_COLOUR) for label, _ in pairs if not label.is_outline]
    drawn += [(label, mask, _COLOURS[label.pixel_class]) for label, mask in pairs]
    for label, mask, colour in drawn:
        row, column = np.nonzero(_inner_edge(mask.astype(np.int32)))
        yield row + label.box[0], column + label.box[1], colour


def _inner_edge(parts: Instances) -> Mask:
    """Pixels of numbered objects at their own border, or at the window's."""
    framed = np.pad(parts, 1).astype(np.float32)
    square = np.ones((3, 3), np.uint8)
    differs = (cv2.erode(framed, square) != framed) | (cv2.dilate(framed, square) != framed)
    return np.asarray(differs[1:-1, 1:-1] & (parts > 0))
