"""From a pyramid level to the pixels that were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from midog_qupath.slides.base import Level, RgbArray, SumArray

#: Reads (level, x, y, width, height) in pixels of a level; the area lies inside the level.
LevelReader = Callable[[int, int, int, int, int], RgbArray]
#: More level pixels than this are never read at once where fewer will do.
_LARGEST_READ = 50_000_000
#: Pixels that are summed at once: they stay in a processor's cache.
_CACHED_PX = 1 << 17
#: Pixels around what is resampled, for the reach of the filters.
_MARGIN = 4


def best_level(levels: Sequence[Level], downsample: float) -> int:
    """The coarsest level that is still at least as fine as asked for (1 % of grace for rounding)."""
    fine = [i for i, level in enumerate(levels) if level.downsample <= downsample * 1.01]
    return max(fine, key=lambda i: levels[i].downsample) if fine else 0


def read_resampled(
    levels: Sequence[Level],
    read_level: LevelReader,
    x: float,
    y: float,
    width: int,
    height: int,
    downsample: float,
) -> RgbArray:
    """An area of a pyramid at any resolution, white where it reaches past the image.

    The result depends on where its pixels lie, not on how the area is cut into tiles.

    Parameters
    ----------
    levels, read_level
        The pyramid: ``read_level(index, x, y, width, height)`` in level pixels, inside the level.
    x, y
        Upper left corner in slide pixels.
    width, height
        Size of the result in tile pixels.
    downsample
        Slide pixels per tile pixel.
    """
    index = best_level(levels, downsample)
    level = levels[index]
    step = downsample / level.downsample
    shrunk = _Shrunk(level, index, read_level, max(1, math.floor(step * (1 + 1e-9))))
    step /= shrunk.factor
    left, top = (at / (level.downsample * shrunk.factor) for at in (x, y))
    if _is_whole(step, left, top):
        return shrunk.read(round(left), round(top), width, height)
    x0, y0 = math.floor(left) - _MARGIN, math.floor(top) - _MARGIN
    x1, y1 = math.ceil(left + width * step) + _MARGIN, math.ceil(top + height * step) + _MARGIN
    source = shrunk.read(x0, y0, x1 - x0, y1 - y0)
    return _scaled(source, left - x0, top - y0, step, width, height)


def block_sums(pixels: RgbArray, by: int) -> SumArray:
    """(H / by, W / by, 3) sums over squares; averages would be rounded, and a network sees it."""
    height, width = pixels.shape[0] // by, pixels.shape[1] // by
    result = np.empty((height, width, 3), dtype=np.uint16)
    rows = max(1, _CACHED_PX // (width * by * by))
    scratch = np.empty((rows * by, width * by, 3), dtype=np.uint16)
    for row in range(0, height, rows):
        target = result[row : row + rows]
        # The average of pixels times by ** 2 is their sum, exactly.
        source = pixels[row * by : (row + len(target)) * by, : width * by]
        wide = scratch[: len(source)]
        wide[:] = source
        wide *= by**2
        cv2.resize(wide, (width, len(target)), dst=target, interpolation=cv2.INTER_AREA)
    return result


def _is_whole(step: float, left: float, top: float) -> bool:
    return abs(step - 1) < 1e-6 and abs(left - round(left)) < 1e-3 and abs(top - round(top)) < 1e-3


@dataclass(frozen=True)
class _Shrunk:
    """A level with blocks of ``factor`` x ``factor`` pixels, counted from its corner, averaged to one."""

    level: Level
    index: int
    read_level: LevelReader
    factor: int

    def read(self, x: int, y: int, width: int, height: int) -> RgbArray:
        """Area in pixels of the shrunk level, white where it reaches past the image."""
        factor = self.factor
        if factor == 1:
            return self._padded(x, y, width, height)
        result = np.empty((height, width, 3), dtype=np.uint8)
        # Some rows at a time, so that a thumbnail of a large image needs little memory.
        rows = max(1, _LARGEST_READ // (width * factor * factor))
        for row in range(0, height, rows):
            count = min(rows, height - row)
            source = self._padded(x * factor, (y + row) * factor, width * factor, count * factor)
            result[row : row + count] = cv2.resize(source, (width, count), interpolation=cv2.INTER_AREA)
        return result

    def _padded(self, x: int, y: int, width: int, height: int) -> RgbArray:
        result = np.full((height, width, 3), 255, dtype=np.uint8)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, self.level.width), min(y + height, self.level.height)
        if x1 > x0 and y1 > y0:
            piece = self.read_level(self.index, x0, y0, x1 - x0, y1 - y0)
            result[y0 - y : y1 - y, x0 - x : x1 - x] = piece
        return result


def _scaled(source: RgbArray, left: float, top: float, step: float, width: int, height: int) -> RgbArray:
    """Resample so that tile pixel i covers source [left + i * step, left + (i + 1) * step); step < 2."""
    if step > 1:
        # Averaging first, so that nothing finer than a tile pixel is aliased.
        source = cv2.GaussianBlur(source, (0, 0), 0.4 * math.sqrt(step * step - 1) + 1e-3)
    matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(source, matrix, (width, height), flags=flags))
