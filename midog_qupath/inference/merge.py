"""One object, one detection: candidates within the matching radius are the same mitotic figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from midog_qupath.detection import Detection
from midog_qupath.units import MATCH_RADIUS, Microns


def keep_highest(
    points: NDArray[np.float64], scores: NDArray[np.float64], radius: float
) -> NDArray[np.int64]:
    """Indices of the points kept when each, highest score first, suppresses all within ``radius`` of it.

    Equal scores are taken in (y, x) order, so the result does not depend on the order of the input.

    Parameters
    ----------
    points
        (N, 2) x, y.
    scores
        (N,).
    radius
        In the unit of ``points``, inclusive.
    """
    if not len(points):
        return np.empty(0, dtype=np.int64)
    near = cKDTree(points).query_ball_point(points, radius)
    free = np.ones(len(points), dtype=bool)
    kept = []
    for index in np.lexsort((points[:, 0], points[:, 1], -scores)):
        if free[index]:
            kept.append(int(index))
            free[near[index]] = False
    return np.array(kept, dtype=np.int64)


def merge(detections: Sequence[Detection], mpp: float, radius: Microns = MATCH_RADIUS) -> list[Detection]:
    """Detections of one image without those within ``radius`` of a more probable one, best first."""
    points = np.array([(d.x, d.y) for d in detections], dtype=np.float64).reshape(-1, 2)
    scores = np.array([d.mitosis_probability for d in detections], dtype=np.float64)
    return [detections[i] for i in keep_highest(points, scores, radius / mpp)]
