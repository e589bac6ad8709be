"""Masks of mitoses made from the centre point alone, against the outlines that people drew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midog_qupath.evaluation.masks import iou
from midog_qupath.learning.ground import AreaGround, Ground
from midog_qupath.learning.labels import Label, Mask, area_labels
from midog_qupath.learning.objects import apart, dark_stain, disc
from midog_qupath.learning.predict import class_probabilities
from midog_qupath.learning.pseudo_masks import enlarged, object_masks
from midog_qupath.models.bundle import BundleCard
from midog_qupath.models.student import BACKGROUND, Student

#: Below this a mask and an outline hardly show the same thing.
_POOR = 0.3

Masks = Callable[[AreaGround], Sequence[Mask]]


@dataclass(frozen=True)
class OutlineAgreement:
    """Intersection over union of masks with drawn outlines: number, median, quartiles, share below 0.3."""

    masks: str
    count: int
    median: float
    lower_quartile: float
    upper_quartile: float
    share_below_03: float


def as_points(ground: Ground) -> Ground:
    """The same ground with every drawn outline forgotten but for its centre: the extent is 8 µm around it."""
    areas = tuple(
        replace(area, labels=tuple(_as_point(area, label) for label in area.labels)) for area in ground.areas
    )
    return replace(ground, areas=areas)


def _as_point(area: AreaGround, label: Label) -> Label:
    if not label.is_outline:
        return label
    row = replace(label.row, polygon=None, shape="points")
    (point,) = area_labels(area.row, [row])
    return replace(point, atypical=label.atypical, row=row)


def compare_with_outlines(
    ground: Ground, teacher: Student | None = None, card: BundleCard | None = None
) -> list[OutlineAgreement]:
    """Discs of 3 µm, seeds and, where one is given, the teacher's masks, each made from centres alone.

    Parameters
    ----------
    ground
        Areas with outlined objects, as they were drawn.
    teacher, card
        Network that was trained on :func:`as_points` of its ground, and how its input is normalised.
    """
    ways: dict[str, Masks] = {"disc of 3 µm": _discs, "seeds": _seeds}
    if teacher is not None and card is not None:
        ways["teacher"] = lambda area: _opinions(teacher, card, area)
    outlined = [area for area in ground.areas if any(label.is_outline for label in area.labels)]
    return [agreement(name, list(_overlaps(outlined, way))) for name, way in ways.items()]


def agreement(masks: str, values: Sequence[float]) -> OutlineAgreement:
    """Summary of intersections over union (0..1); NaN where there is none."""
    if not len(values):
        return OutlineAgreement(masks, 0, *[float("nan")] * 4)
    lower, median, upper = (float(v) for v in np.percentile(values, (25, 50, 75)))
    below = float(np.mean(np.asarray(values) < _POOR))
    return OutlineAgreement(masks, len(values), median, lower, upper, below)


def _overlaps(areas: Sequence[AreaGround], way: Masks) -> Iterator[float]:
    for area in areas:
        pointed = replace(area, labels=tuple(_as_point(area, label) for label in area.labels))
        for drawn, point, mask in zip(area.labels, pointed.labels, way(pointed), strict=True):
            if drawn.is_outline:
                yield _iou_in_place(drawn, point, mask)


def _iou_in_place(drawn: Label, point: Label, mask: Mask) -> float:
    """Overlap of masks that are stored in windows of their own."""
    boxes = np.array([drawn.box, point.box])
    (top, left), (bottom, right) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    canvases = np.zeros((2, bottom - top, right - left), dtype=bool)
    for canvas, box, pixels in zip(canvases, boxes, (drawn.extent, mask), strict=True):
        canvas[box[0] - top : box[2] - top, box[1] - left : box[3] - left] = pixels
    return iou(canvases[0], canvases[1])


def _discs(area: AreaGround) -> list[Mask]:
    return apart(area.labels, [disc(label) for label in area.labels])


def _seeds(area: AreaGround) -> list[Mask]:
    return object_masks(area, None, dark_stain(np.asarray(area.pixels), area.labels))


def _opinions(teacher: Student, card: BundleCard, area: AreaGround) -> list[Mask]:
    opinion = class_probabilities(teacher, card, area)
    return object_masks(
        area, 1 - enlarged(opinion[BACKGROUND], area), dark_stain(np.asarray(area.pixels), area.labels)
    )
