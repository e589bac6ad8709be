"""Hard-negative mining: what the network takes for a mitosis where every mitosis is labelled."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.ground import AreaGround, Ground, Spot, SpotSet
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


def mine(network: Student, card: BundleCard, ground: Ground, progress: Progress) -> SpotSet:
    """Look-alikes inside exhaustively labelled ground that no label explains, as spots."""
    fields = [(i, area) for i, area in enumerate(ground.areas) if area.exhaustive.any()]
    found: list[Spot] = []
    with progress.task("mining look-alikes", len(fields), "areas") as advance:
        for index, area in fields:
            opinion = class_probabilities(network, card, area, flips=1)
            found.extend(mine_area(index, area, opinion[MITOSIS]))
            advance(1)
    return SpotSet(tuple(found))


def mine_area(index: int, area: AreaGround, probability: NDArray[np.float16]) -> list[Spot]:
    """Look-alikes of one area from its mitosis probabilities (height / stride, width / stride).

    A look-alike is a peak in exhaustively labelled ground farther than 7.5 µm from every label and from
    every look-alike before it.
    """
    if not area.exhaustive.any():
        return []
    stride = round(area.row.width / probability.shape[1])
    taken = [(label.x, label.y) for label in area.labels]
    window = (0, 0, area.row.height, area.row.width)
    spots: list[Spot] = []
    for row, column in _peaks(probability.astype(np.float32), stride):
        y, x = (float(row) + 0.5) * stride, (float(column) + 0.5) * stride
        distances = np.hypot(*(np.array(taken).reshape(-1, 2) - (x, y)).T)
        if (distances > working_px(MATCH_RADIUS)).all() and area.knows(x, y):
            spots.append(Spot(index, y, x, area.domain, window))
            taken.append((x, y))
        if len(spots) == _MOST_AN_AREA:
            break
    return spots


def _peaks(probability: NDArray[np.float32], stride: int) -> NDArray[np.int64]:
    """(N, 2) rows and columns of peaks above the floor, none within 7.5 µm of a higher one, highest first.

    Half precision makes plateaus: all pixels of one are peaks.
    """
    side = 2 * int(working_px(MATCH_RADIUS) / stride) + 1
    highest = cv2.dilate(probability, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    where = np.argwhere((probability >= highest) & (probability >= _FLOOR))
    order = np.argsort(-probability[tuple(where.T)], kind="stable")
    return np.asarray(where[order])
