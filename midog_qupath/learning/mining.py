"""Hard-negative mining: what the network takes for a mitosis where there is none.

In exhaustively labelled ground that is certain. The surroundings of a mosaic's objects are not labelled,
but a mitotic figure is rare there: what the network is not too sure of is taken for a look-alike too, so
that look-alikes come from all scanners and not only from the few images that are labelled whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.ground import AreaGround, Ground, Spot, SpotSet, Window
from midog_qupath.learning.labels import working_px
from midog_qupath.learning.predict import class_probabilities
from midog_qupath.models.bundle import BundleCard
from midog_qupath.models.student import MITOSIS, Student
from midog_qupath.progress import Progress
from midog_qupath.units import MATCH_RADIUS

#: Lowest mitosis probability of a mined look-alike.
_FLOOR = 0.2
#: At most so many an area, the most mitosis-like first: one stained fold must not fill every batch.
_MOST_AN_AREA = 30
#: And so many a cell of a mosaic.
_MOST_A_CELL = 2


def mine(network: Student, card: BundleCard, ground: Ground, doubt: float, progress: Progress) -> SpotSet:
    """Look-alikes that no label explains, as spots; see :func:`mine_area`."""
    wanted = [(i, area) for i, area in enumerate(ground.areas) if area.exhaustive.any() or area.cells]
    found: list[Spot] = []
    with progress.task("mining look-alikes", len(wanted), "areas") as advance:
        for index, area in wanted:
            opinion = class_probabilities(network, card, area, flips=1)
            found.extend(mine_area(index, area, opinion[MITOSIS], doubt))
            advance(1)
    return SpotSet(tuple(found))


def mine_area(index: int, area: AreaGround, probability: NDArray[np.float16], doubt: float) -> list[Spot]:
    """Look-alikes of one area from its mitosis probabilities (height / stride, width / stride).

    A look-alike is a peak farther than 7.5 µm from every label, in exhaustively labelled ground or in a
    mosaic's cell that holds a training object. ``doubt``: a peak of a cell that is higher may be a mitotic
    figure that nobody labelled, and is left out; 0 leaves all of them out.
    """
    stride = round(area.row.width / probability.shape[1])
    known = np.array([(label.x, label.y) for label in area.labels]).reshape(-1, 2)
    values = probability.astype(np.float32)
    spots: list[Spot] = []
    if area.exhaustive.any():
        window = (0, 0, area.row.height, area.row.width)
        found = [(y, x) for y, x, _ in _look_alikes(values, window, stride, known) if area.knows(x, y)]
        spots += [Spot(index, y, x, area.domain, window) for y, x in found[:_MOST_AN_AREA]]
    for cell in area.cells:
        found = [(y, x) for y, x, p in _look_alikes(values, cell, stride, known) if p < doubt]
        spots += [Spot(index, y, x, area.domain, cell) for y, x in found[:_MOST_A_CELL]]
    return spots


def _look_alikes(
    values: NDArray[np.float32], window: Window, stride: int, known: NDArray[np.float64]
) -> Iterator[tuple[float, float, float]]:
    """(y, x, probability) of the peaks of a window that lie farther than 7.5 µm from every label."""
    top, left, bottom, right = (side // stride for side in window)
    for row, column in _peaks(values[top:bottom, left:right], stride):
        y, x = (top + float(row) + 0.5) * stride, (left + float(column) + 0.5) * stride
        if (np.hypot(*(known - (x, y)).T) > working_px(MATCH_RADIUS)).all():
            yield y, x, float(values[top + row, left + column])


def _peaks(probability: NDArray[np.float32], stride: int) -> NDArray[np.int64]:
    """(N, 2) rows and columns of peaks above the floor, none within 7.5 µm of a higher one, highest first."""
    side = 2 * int(working_px(MATCH_RADIUS) / stride) + 1
    highest = cv2.dilate(probability, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    where = np.argwhere((probability >= highest) & (probability >= _FLOOR))
    order = np.argsort(-probability[tuple(where.T)], kind="stable")
    return np.asarray(where[order])
