"""Pixels of tiles, read ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midog_qupath.inference.grid import Tile
from midog_qupath.slides.base import RgbArray, Slide, SummingSlide
from midog_qupath.slides.resample import block_sums

#: uint8, or uint16 where they are sums.
Pixels: TypeAlias = NDArray[Any]


class Batch(NamedTuple):
    """Tiles of one window size and their pixels, (B, H, W, 3) uint8.

    ``reduce``: the pixels are sums over squares of so many working pixels instead, uint16 where more than 1.
    """

    tiles: Sequence[Tile]
    pixels: Pixels
    reduce: int = 1

    @property
    def window_px(self) -> int:
        """Working pixels of all windows together."""
        return sum(tile.pixels for tile in self.tiles)


def read_tile(slide: Slide, tile: Tile, downsample: float) -> RgbArray:
    """(window_height, window_width, 3) pixels of a tile; white past the image, mirrored where it says so."""
    if not tile.mirrored:
        x, y = (tile.x - tile.left) * downsample, (tile.y - tile.top) * downsample
        return slide.read(x, y, tile.window_width, tile.window_height, downsample)
    core = slide.read(tile.x * downsample, tile.y * downsample, tile.width, tile.height, downsample)
    right = tile.window_width - tile.left - tile.width
    below = tile.window_height - tile.top - tile.height
    return np.pad(core, ((tile.top, below), (tile.left, right), (0, 0)), mode="reflect")


def group_tiles(tiles: Sequence[Tile], pixels: int) -> list[list[Tile]]:
    """Neighbours in the order given that have windows of one size, about ``pixels`` of them together."""
    groups: list[list[Tile]] = []
    for tile in tiles:
        last = groups[-1] if groups else []
        alike = last and (last[0].window_width, last[0].window_height) == (
            tile.window_width,
            tile.window_height,
        )
        if alike and (len(last) + 1) * tile.pixels <= pixels:
            last.append(tile)
        else:
            groups.append([tile])
    return groups


def read_group(slide: Slide, tiles: Sequence[Tile], downsample: float, reduce: int = 1) -> Pixels:
    """(B, H, W, 3) pixels of tiles of one window size, summed over squares of ``reduce`` pixels."""
    read = [_reduced(slide, tile, downsample, reduce) for tile in tiles]
    return np.stack(read) if len(read) > 1 else read[0][np.newaxis]


def _reduced(slide: Slide, tile: Tile, downsample: float, by: int) -> Pixels:
    if by == 1:
        return read_tile(slide, tile, downsample)
    if downsample == 1 and not tile.mirrored and isinstance(slide, SummingSlide):
        x, y = round(tile.x - tile.left), round(tile.y - tile.top)
        sums = slide.read_sums(x, y, tile.window_width, tile.window_height, by)
        if sums is not None:
            return sums
    return block_sums(read_tile(slide, tile, downsample), by)


def read_batches(
    slide: Slide, tiles: Sequence[Tile], downsample: float, pixels: int, reduce: int = 1
) -> Iterator[Batch]:
    """Batches of about ``pixels`` window pixels, each read while the one before is worked on.

    One reader thread: a slide is not used by two threads at once, and no more than two batches are held.
    """
    groups = group_tiles(tiles, pixels)
    if not groups:
        return

    def read(group: Sequence[Tile]) -> Batch:
        return Batch(group, read_group(slide, group, downsample, reduce), reduce)

    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = reader.submit(read, groups[0])
        for following in groups[1:]:
            ready = waiting.result()
            waiting = reader.submit(read, following)
            yield ready
        yield waiting.result()
