"""How far each level of a pyramid is scaled down, from rounded sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from midog_qupath.slides.base import Level


def levels_of(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels from their widths and heights, full resolution first, as QuPath counts them.

    It leaves out what follows a level whose downsample does not grow.
    """
    found: list[Level] = []
    for size in sizes:
        downsample = estimate_downsample(sizes[0], size)
        if found and downsample <= found[-1].downsample:
            break
        found.append(Level(*size, downsample))
    return tuple(found)


def estimate_downsample(full: tuple[int, int], part: tuple[int, int]) -> float:
    """A power of two or a whole number where sizes are rounded, else the mean of both axes.

    The plain ratio is wrong by more than a pixel at the far end of a slide. (QuPath 0.6,
    ``ImageResolutionLevel.Builder.estimateDownsample``.)
    """
    ratios = [whole / less for whole, less in zip(full, part, strict=True)]
    power = 2.0 ** round(math.log2(sum(ratios) / 2))
    if all(abs(whole / power - less) < 2 for whole, less in zip(full, part, strict=True)):
        return power
    x, y = (
        float(round(ratio)) if abs(whole / max(1, round(ratio)) - less) <= 1 else ratio
        for ratio, whole, less in zip(ratios, full, part, strict=True)
    )
    return power if power in (x, y) else (x + y) / 2
