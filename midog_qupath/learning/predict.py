"""What a network in training says of the dataset's own pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from midog_qupath.inference.grid import Tile, cell_tiles, grid_tiles
from midog_qupath.inference.read import read_batches
from midog_qupath.learning.ground import AreaGround
from midog_qupath.models.bundle import BundleCard, normalise
from midog_qupath.models.student import Student
from midog_qupath.slides.base import RgbArray
from midog_qupath.units import WORKING_MPP, MicronsPerPixel

_CORE, _HALO, _BATCH_PX = 1024, 32, 1_200_000


class ArraySlide:
    """Stored pixels of an area as a slide of their own (one stored pixel = one slide pixel)."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]
        self.file_mpp: MicronsPerPixel | None = WORKING_MPP

    def __enter__(self) -> ArraySlide:
        return self

    def __exit__(self, *args: object) -> None:
        return None

    def close(self) -> None:
        """Nothing to release."""

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> RgbArray:
        """See :meth:`midog_qupath.slides.base.Slide.read`; only ``downsample`` 1."""
        assert downsample == 1
        left, top = round(x), round(y)
        result = np.full((height, width, 3), 255, dtype=np.uint8)
        y0, y1 = max(top, 0), min(top + height, self.height)
        x0, x1 = max(left, 0), min(left + width, self.width)
        if y1 > y0 and x1 > x0:
            result[y0 - top : y1 - top, x0 - left : x1 - left] = self._pixels[y0:y1, x0:x1]
        return result


def cell_side(area: AreaGround) -> float | None:
    """Side of a mosaic's cells in stored pixels, None for ordinary images."""
    return area.image.cell_px / area.row.downsample if area.image.cell_px else None


def class_probabilities(
    network: Student, card: BundleCard, area: AreaGround, flips: int = 2
) -> NDArray[np.float16]:
    """(4, height / stride, width / stride) probabilities of an area, averaged over ``flips`` orientations.

    In a mosaic only the cells that hold a training object are looked at, each by itself; elsewhere the
    result is 0.
    """
    stride = network.config.stride
    result = np.zeros((4, -(-area.row.height // stride), -(-area.row.width // stride)), dtype=np.float16)
    slide = ArraySlide(area.pixels)
    device = next(network.parameters()).device
    for batch in read_batches(slide, _tiles(area), 1.0, _BATCH_PX):
        images = normalise(torch.from_numpy(batch.pixels).to(device), card.mean, card.std)
        values = _flip_averaged(network, images, flips).cpu().numpy().astype(np.float16)
        for tile, value in zip(batch.tiles, values, strict=True):
            _put(result, tile, value, stride)
    return result


def _tiles(area: AreaGround) -> list[Tile]:
    side = cell_side(area)
    if side is None:
        return grid_tiles(area.row.width, area.row.height, _CORE, _HALO)
    wanted = {(label.row.cell) for label in area.labels}
    cells = cell_tiles(area.row.width, area.row.height, side, 0)
    return [tile for index, tile in enumerate(cells) if index in wanted]


@torch.inference_mode()
def _flip_averaged(network: Student, images: Tensor, flips: int) -> Tensor:
    # The half turn differs most from the image as it is; the mirror images add little for their cost.
    orientations: tuple[list[int], ...] = ([], [2, 3], [2], [3])
    found = []
    for axes in orientations[:flips]:
        turned = torch.flip(images, axes) if axes else images
        probability = torch.softmax(network(turned).logits.float(), dim=1)
        found.append(torch.flip(probability, axes) if axes else probability)
    return torch.stack(found).mean(dim=0)


def _put(result: NDArray[np.float16], tile: Tile, value: NDArray[np.float16], stride: int) -> None:
    y, x = round(tile.y) // stride, round(tile.x) // stride
    top, left = tile.top // stride, tile.left // stride
    height = min(-(-tile.height // stride), result.shape[1] - y)
    width = min(-(-tile.width // stride), result.shape[2] - x)
    result[:, y : y + height, x : x + width] = value[:, top : top + height, left : left + width]
