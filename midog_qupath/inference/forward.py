"""One batch through the network: segmentation, peaks, outlines, and the classifier at the candidates only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.geometry import Polygon
from torch import Tensor

from midog_qupath.detection import Detection
from midog_qupath.inference.grid import Tile
from midog_qupath.inference.outline import REACH, outline
from midog_qupath.inference.peaks import find_peaks, windows_around
from midog_qupath.inference.read import Batch
from midog_qupath.models.bundle import Bundle
from midog_qupath.models.student import ATYPICAL, MITOSIS, NORMAL
from midog_qupath.units import MATCH_RADIUS

#: Peaks of the segmentation below this are no candidates, whatever the classifier would say. Thresholds are
#: chosen and curves drawn on the candidates from here on: the same that annotating sees.
CANDIDATE_FLOOR = 0.02


def network_device(bundle: Bundle) -> torch.device:
    """The device on which the bundle's weights lie."""
    return next(bundle.network.parameters()).device


def detect_batch(
    bundle: Bundle, batch: Batch, image_size: tuple[float, float], floor: float = CANDIDATE_FLOOR
) -> list[Detection]:
    """Candidates whose peak lies in the core of a tile, in working pixels of the image, not yet merged.

    ``image_size``: width, height of the image in working pixels; outlines are cut there. ``floor``:
    lowest segmentation peak of a candidate.
    """
    with torch.inference_mode():
        images = torch.from_numpy(batch.pixels).to(network_device(bundle), non_blocking=True)
        logits, features = bundle.network(bundle.normalise(images))
        probability = torch.softmax(logits.float(), dim=1)[:, MITOSIS]
        where, peaks, polygons = _candidates(bundle, probability, batch.tiles, image_size, floor)
        if not polygons:
            return []
        classes = classify(bundle, features, _positions(polygons, where[:, 0], batch.tiles))
    scores = bundle.score(peaks, classes)
    atypical = atypical_given_mitosis(bundle, classes)
    return [_detection(*row) for row in zip(polygons, scores, atypical, strict=True)]


def _candidates(
    bundle: Bundle,
    probability: Tensor,
    tiles: Sequence[Tile],
    image_size: tuple[float, float],
    floor: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[Polygon]]:
    # (N, 3) index in the batch, row, column; (N,) peak; outlines in working pixels of the image.
    stride, pixel_um = bundle.card.stride, bundle.card.stride * bundle.card.mpp
    # A square of this radius stays within the matching radius even at its corners.
    peaks = find_peaks(probability, max(1, int(MATCH_RADIUS / pixel_um / 2**0.5)), floor)
    inside = _in_core(peaks.where, tiles, stride)
    where = peaks.where[inside]
    reach = round(REACH / pixel_um)
    windows = windows_around(probability, where, reach).cpu().numpy()
    found = where.cpu().numpy()
    polygons = [
        _place(outline(window, pixel_um), (row - reach, column - reach), stride, tiles[index], image_size)
        for window, (index, row, column) in zip(windows, found, strict=True)
    ]
    return found, peaks.value[inside].cpu().double().numpy(), polygons


def classify(
    bundle: Bundle, features: tuple[Tensor, ...], positions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities (N, 3) of not a mitosis, normal, atypical at (N, 3) index in the batch, y, x."""
    where = torch.from_numpy(positions.astype(np.float32)).to(features[0].device)
    logits = bundle.network.classify(features, where)
    return torch.softmax(logits.cpu().double(), dim=1).numpy()


def atypical_given_mitosis(bundle: Bundle, classes: NDArray[np.float64]) -> list[float | None]:
    """Calibrated P(atypical | mitosis) of (N, 3) class probabilities; None where the model has no types."""
    if not bundle.card.has_atypical:
        return [None] * len(classes)
    figures = np.maximum(classes[:, NORMAL] + classes[:, ATYPICAL], np.finfo(np.float64).tiny)
    return [float(p) for p in bundle.calibrate_atypical(classes[:, ATYPICAL] / figures)]


def _in_core(where: Tensor, tiles: Sequence[Tile], stride: int) -> Tensor:
    margin, width, height = (
        torch.tensor([getattr(t, name) for t in tiles], device=where.device)[where[:, 0]]
        for name in ("margin", "width", "height")
    )
    y = (where[:, 1] + 0.5) * stride - margin
    x = (where[:, 2] + 0.5) * stride - margin
    return (y >= 0) & (y < height) & (x >= 0) & (x < width)


def _place(
    polygon: Polygon, corner: tuple[int, int], stride: int, tile: Tile, image_size: tuple[float, float]
) -> Polygon:
    # From window pixels of the map to working pixels of the image, cut at the image (or cell) border.
    row, column = corner
    left, top = tile.x - tile.margin, tile.y - tile.margin
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
        rows.append((index, y - tile.y + tile.margin, x - tile.x + tile.margin))
    return np.array(rows, dtype=np.float64)


def centre(polygon: Polygon) -> tuple[float, float]:
    """x, y of the centre of the bounding box: what the position of an object means everywhere here."""
    left, top, right, bottom = polygon.bounds
    return (left + right) / 2, (top + bottom) / 2


def _detection(polygon: Polygon, score: float, atypical: float | None) -> Detection:
    x, y = centre(polygon)
    return Detection(x, y, float(score), atypical, polygon)
