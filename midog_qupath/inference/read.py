"""Pixels of tiles, read one batch ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midog_qupath.inference.grid import Tile
from midog_qupath.slides.base import RgbArray, Slide


class Batch(NamedTuple):
    """Tiles of one window size and their pixels, (B, H, W, 3) uint8."""

    tiles: Sequence[Tile]
    pixels: NDArray[np.uint8]


def read_tile(slide: Slide, tile: Tile, downsample: float) -> RgbArray:
    """(window_height, window_width, 3) pixels of a tile; white past the image, mirrored where it says so."""
    if not tile.mirrored:
        x, y = (tile.x - tile.margin) * downsample, (tile.y - tile.margin) * downsample
        return slide.read(x, y, tile.window_width, tile.window_height, downsample)
    core = slide.read(tile.x * downsample, tile.y * downsample, tile.width, tile.height, downsample)
    right = tile.window_width - tile.margin - tile.width
    below = tile.window_height - tile.margin - tile.height
    return np.pad(core, ((tile.margin, below), (tile.margin, right), (0, 0)), mode="reflect")


def read_batches(slide: Slide, tiles: Sequence[Tile], downsample: float, pixels: int) -> Iterator[Batch]:
    """Batches of about ``pixels`` window pixels, each read while the one before is worked on.

    One reader thread: a slide is not used by two threads at once, and no more than two batches are held.
    """
    if not tiles:
        return
    size = max(1, pixels // (tiles[0].window_width * tiles[0].window_height))
    groups = [tiles[start : start + size] for start in range(0, len(tiles), size)]

    def read(group: Sequence[Tile]) -> Batch:
        return Batch(group, np.stack([read_tile(slide, tile, downsample) for tile in group]))

    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = reader.submit(read, groups[0])
        for following in groups[1:]:
            ready = waiting.result()
            waiting = reader.submit(read, following)
            yield ready
        yield waiting.result()
