"""From what the network saw in a batch of windows to candidates: peaks, outlines, classes.

Peaks are found on the device; of each only a small window of probabilities leaves it. The classifier looks
at small pieces of the feature maps around the candidates, all of a batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.geometry import Polygon
from torch import Tensor

from midog_qupath.detection import Detection
from midog_qupath.inference.grid import SIZE_MULTIPLE, Tile, round_up
from midog_qupath.inference.outline import REACH, outline
from midog_qupath.inference.peaks import find_peaks, windows_around
from midog_qupath.inference.profile import Stages
from midog_qupath.inference.segment import Seen
from midog_qupath.models.bundle import Bundle
from midog_qupath.models.calibration import log_odds, sigmoid
from midog_qupath.models.student import ATYPICAL, NORMAL
from midog_qupath.units import MATCH_RADIUS

#: Peaks of the segmentation below this are no candidates, whatever the classifier would say. Thresholds are
#: chosen and curves drawn on the candidates from here on: the same that annotating sees.
CANDIDATE_FLOOR = 0.02
#: Log-odds by which peaks may miss the threshold and still be looked at: more than rounding can move them.
_SLACK = 1e-3


def candidate_floor(bundle: Bundle, lowest: float) -> float:
    """The segmentation peak from which a candidate can reach the calibrated probability ``lowest``."""
    needed = max(bundle.uncalibrated_mitosis(lowest), 1e-6)
    if bundle.card.operating_point.verifier_weight == 0:
        # The peak alone decides: nothing below it can become a detection.
        return float(sigmoid(log_odds(np.array([needed])) - _SLACK)[0])
    return min(CANDIDATE_FLOOR, needed)


def candidates(
    bundle: Bundle,
    seen: Seen,
    tiles: Sequence[Tile],
    image_size: tuple[float, float],
    floor: float,
    lowest: float,
    stages: Stages,
) -> list[Detection]:
    """Candidates whose peak lies in the core of a tile, in working pixels of the image, not yet merged.

    ``image_size``: width, height of the image in working pixels; outlines are cut there. ``floor``:
    lowest segmentation peak of a candidate, ``lowest``: lowest calibrated probability.
    """
    with torch.inference_mode():
        with stages.stage("peaks"):
            found, peaks, windows = _peaks(bundle, seen.probability, tiles, floor)
        if not len(found):
            return []
        with stages.stage("outlines"):
            polygons = _outlines(bundle, found, windows, tiles, image_size)
        with stages.stage("classifier"):
            positions = _positions(polygons, found[:, 0], tiles)
            classes = classify_few(bundle, seen.features, positions)
    scores = bundle.score(peaks, classes)
    atypical = atypical_given_mitosis(bundle, classes)
    rows = zip(polygons, scores, atypical, strict=True)
    return [_detection(*row) for row in rows if row[1] >= lowest]


def _peaks(
    bundle: Bundle, probability: Tensor, tiles: Sequence[Tile], floor: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    """(N, 3) index in the batch, row, column; (N,) peak; (N, S, S) probabilities around each."""
    stride, pixel_um = bundle.card.stride, bundle.card.stride * bundle.card.mpp
    # A square of this radius stays within the matching radius even at its corners.
    peaks = find_peaks(probability, max(1, int(MATCH_RADIUS / pixel_um / 2**0.5)), floor)
    inside = _in_core(peaks.where, tiles, stride)
    where = peaks.where[inside]
    windows = windows_around(probability, where, _reach(bundle)).cpu().numpy()
    return where.cpu().numpy(), peaks.value[inside].cpu().double().numpy(), windows


def _reach(bundle: Bundle) -> int:
    return round(REACH / (bundle.card.stride * bundle.card.mpp))


def _outlines(
    bundle: Bundle,
    found: NDArray[np.int64],
    windows: NDArray[np.float32],
    tiles: Sequence[Tile],
    image_size: tuple[float, float],
) -> list[Polygon]:
    stride, reach = bundle.card.stride, _reach(bundle)
    return [
        _place(
            outline(window, stride * bundle.card.mpp),
            (row - reach, column - reach),
            stride,
            tiles[index],
            image_size,
        )
        for window, (index, row, column) in zip(windows, found, strict=True)
    ]


def classify(
    bundle: Bundle, features: tuple[Tensor, ...], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities (N, 3) of not a mitosis, normal, atypical at (N, 3) index in the batch, y, x."""
    where = torch.from_numpy(positions.astype(np.float32)).to(features[0].device)
    logits = bundle.network.classify(features, where)
    return torch.softmax(logits.cpu().double(), dim=1).numpy()


def classify_few(
    bundle: Bundle, features: tuple[Tensor, ...], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """:func:`classify`, from small pieces of the maps where that is less work than from whole maps."""
    network = bundle.network
    strides = network.classifier.strides
    batch, height, width = (features[0].shape[i] * (strides[0] if i else 1) for i in (0, 2, 3))
    # A sample also takes the map pixels beside it, of the coarsest map too.
    reach = max(network.classifier.windows) // 2 + max(strides)
    side = round_up(2 * reach + SIZE_MULTIPLE)
    if min(height, width) < side or 4 * len(positions) * side**2 > batch * height * width:
        return classify(bundle, features, positions)
    corners = np.floor((positions[:, 1:] - reach) / SIZE_MULTIPLE) * SIZE_MULTIPLE
    corners = np.clip(corners, 0, (height - side, width - side))
    pieces = tuple(
        torch.stack(
            [
                feature[int(index), :, y : y + side // stride, x : x + side // stride]
                for index, (y, x) in zip(positions[:, 0], (corners // stride).astype(int), strict=True)
            ]
        )
        for feature, stride in zip(features, strides, strict=True)
    )
    moved = np.column_stack([np.arange(len(positions)), positions[:, 1:] - corners])
    return classify(bundle, pieces, moved)


def atypical_given_mitosis(bundle: Bundle, classes: NDArray[np.float64]) -> list[float | None]:
    """Calibrated P(atypical | mitosis) of (N, 3) class probabilities; None where the model has no types."""
    if not bundle.card.has_atypical:
        return [None] * len(classes)
    figures = np.maximum(classes[:, NORMAL] + classes[:, ATYPICAL], np.finfo(np.float64).tiny)
    return [float(p) for p in bundle.calibrate_atypical(classes[:, ATYPICAL] / figures)]


def _in_core(where: Tensor, tiles: Sequence[Tile], stride: int) -> Tensor:
    left, top, width, height = (
        torch.tensor([getattr(t, name) for t in tiles], device=where.device)[where[:, 0]]
        for name in ("left", "top", "width", "height")
    )
    y = (where[:, 1] + 0.5) * stride - top
    x = (where[:, 2] + 0.5) * stride - left
    return (y >= 0) & (y < height) & (x >= 0) & (x < width)


def _place(
    polygon: Polygon, corner: tuple[int, int], stride: int, tile: Tile, image_size: tuple[float, float]
) -> Polygon:
    # From window pixels of the map to working pixels of the image, cut at the image (or cell) border.
    row, column = corner
    left, top = tile.x - tile.left, tile.y - tile.top
    offset = np.array([left + column * stride, top + row * stride])
    placed = shapely.transform(polygon, lambda xy: xy * stride + offset)
    limits = (0.0, 0.0, *image_size)
    if tile.mirrored:
        limits = (tile.x, tile.y, tile.x + tile.width, tile.y + tile.height)
    border = shapely.box(*limits)
    if shapely.contains(border, placed):
        return placed
    parts = shapely.get_parts(shapely.intersection(placed, border))
    return max((p for p in parts if isinstance(p, Polygon)), key=lambda p: p.area, default=placed)


def _positions(
    polygons: Sequence[Polygon], indices: NDArray[np.int64], tiles: Sequence[Tile]
) -> NDArray[np.float64]:
    rows = []
    for polygon, index in zip(polygons, indices, strict=True):
        x, y = centre(polygon)
        tile = tiles[index]
        rows.append((index, y - tile.y + tile.top, x - tile.x + tile.left))
    return np.array(rows, dtype=np.float64)


def centre(polygon: Polygon) -> tuple[float, float]:
    """x, y of the centre of the bounding box: what the position of an object means everywhere here."""
    left, top, right, bottom = polygon.bounds
    return (left + right) / 2, (top + bottom) / 2


def _detection(polygon: Polygon, score: float, atypical: float | None) -> Detection:
    x, y = centre(polygon)
    return Detection(x, y, float(score), atypical, polygon)
