"""Local maxima of the mitosis probability map, found on the device where the map lies."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


class Peaks(NamedTuple):
    """``where``: (N, 3) int64 index in the batch, row, column. ``value``: (N,) float."""

    where: Tensor
    value: Tensor


def find_peaks(probability: Tensor, radius: int, floor: float) -> Peaks:
    """Pixels of at least ``floor`` that no pixel within ``radius`` rows and columns exceeds.

    Of a plateau (a figure of which the network is certain) only its most central pixel is a peak.

    Parameters
    ----------
    probability
        (B, H, W) float.
    radius
        In map pixels, at least 1.
    floor
        Lowest value of a peak.
    """
    if not probability.numel() or float(probability.max()) < floor:
        empty = torch.empty((0, 3), dtype=torch.int64, device=probability.device)
        return Peaks(empty, probability.new_empty(0))
    mask = (probability >= _highest_within(probability, radius)) & (probability >= floor)
    found = [
        np.insert(_central_pixels(image), 0, index, axis=1) for index, image in enumerate(mask.cpu().numpy())
    ]
    where = torch.from_numpy(np.concatenate(found)).to(probability.device)
    return Peaks(where, probability[where[:, 0], where[:, 1], where[:, 2]])


def _highest_within(probability: Tensor, radius: int) -> Tensor:
    """(B, H, W) the highest value within ``radius`` rows and columns of each pixel."""
    side = 2 * radius + 1
    if probability.device.type == "cpu":
        # The same on a CPU, many times as fast.
        kernel = np.ones((side, side), np.uint8)
        return torch.from_numpy(np.stack([cv2.dilate(image, kernel) for image in probability.numpy()]))
    # Two passes of one dimension cost 2 * side comparisons a pixel, one square pass side ** 2.
    rows = functional.max_pool2d(probability, (side, 1), stride=1, padding=(radius, 0))
    return functional.max_pool2d(rows, (1, side), stride=1, padding=(0, radius))


def windows_around(probability: Tensor, where: Tensor, reach: int) -> Tensor:
    """(N, 2 * reach + 1, 2 * reach + 1) pieces of a (B, H, W) map around (N, 3) pixels, 0 past its edge."""
    padded = functional.pad(probability, (reach, reach, reach, reach))
    offsets = torch.arange(2 * reach + 1, device=probability.device)
    rows = where[:, 1, None] + offsets
    columns = where[:, 2, None] + offsets
    return padded[where[:, 0, None, None], rows[:, :, None], columns[:, None, :]]


def _central_pixels(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    # (N, 2) row, column: of each connected component the pixel nearest to its centroid.
    _, labels, _, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    pixels = np.argwhere(mask)
    component = labels[mask]
    distance = np.square(pixels - centroids[component][:, ::-1]).sum(axis=1)
    _, first = np.unique(component[(order := np.lexsort((distance, component)))], return_index=True)
    return pixels[order[first]].astype(np.int64)
