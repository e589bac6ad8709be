"""From a pyramid level to the pixels that were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from midog_qupath.slides.base import RgbArray

#: Reads (x, y, width, height) in pixels of a level; the area lies inside the level.
LevelReader = Callable[[int, int, int, int, int], RgbArray]
#: More level pixels than this are never read at once.
_LARGEST_READ = 120_000_000


@dataclass(frozen=True)
class Level:
    """One level of a pyramid. ``downsample``: slide pixels per level pixel."""

    width: int
    height: int
    downsample: float


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
    left, top = x / level.downsample, y / level.downsample
    if _is_whole(step, left, top):
        return _padded(level, index, read_level, round(left), round(top), width, height)
    if step * width * step * height > _LARGEST_READ:
        step_up = math.ceil(math.sqrt(step * width * step * height / _LARGEST_READ))
        return _in_strips(levels, read_level, x, y, width, height, downsample, step_up)
    # One pixel of margin for interpolation at the border.
    x0, y0 = math.floor(left) - 1, math.floor(top) - 1
    x1, y1 = math.ceil(left + width * step) + 1, math.ceil(top + height * step) + 1
    source = _padded(level, index, read_level, x0, y0, x1 - x0, y1 - y0)
    return _scaled(source, left - x0, top - y0, step, width, height)


def _is_whole(step: float, left: float, top: float) -> bool:
    return abs(step - 1) < 1e-6 and abs(left - round(left)) < 1e-3 and abs(top - round(top)) < 1e-3


def _in_strips(
    levels: Sequence[Level],
    read_level: LevelReader,
    x: float,
    y: float,
    width: int,
    height: int,
    downsample: float,
    strips: int,
) -> RgbArray:
    """A read that would need too much memory at once, a few rows of the result at a time."""
    rows = max(1, height // (strips * strips))
    parts = [
        read_resampled(
            levels, read_level, x, y + start * downsample, width, min(rows, height - start), downsample
        )
        for start in range(0, height, rows)
    ]
    return np.concatenate(parts)


def _padded(
    level: Level, index: int, read_level: LevelReader, x: int, y: int, width: int, height: int
) -> RgbArray:
    result = np.full((height, width, 3), 255, dtype=np.uint8)
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, level.width), min(y + height, level.height)
    if x1 > x0 and y1 > y0:
        result[y0 - y : y1 - y, x0 - x : x1 - x] = read_level(index, x0, y0, x1 - x0, y1 - y0)
    return result


def _scaled(source: RgbArray, left: float, top: float, step: float, width: int, height: int) -> RgbArray:
    """Resample so that tile pixel i covers source [left + i * step, left + (i + 1) * step)."""
    if step > 1:
        # Averaging first, so that nothing finer than a tile pixel is aliased.
        source = cv2.GaussianBlur(source, (0, 0), 0.4 * math.sqrt(step * step - 1) + 1e-3)
    matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
    return np.asarray(
        cv2.warpAffine(
            source,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )
