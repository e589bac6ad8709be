"""A whole image, small."""

from __future__ import annotations

from midog_qupath.slides.base import RgbArray, Slide


def thumbnail(slide: Slide, max_width: int, max_height: int | None = None) -> RgbArray:
    """The whole image as (H, W, 3) uint8 RGB, at most so many pixels wide and high; never enlarged.

    ``max_height`` None: as ``max_width``. Sides are rounded down, as QuPath does.
    """
    scale = min(1.0, max_width / slide.width, (max_height or max_width) / slide.height)
    width, height = (max(1, int(side * scale)) for side in (slide.width, slide.height))
    return slide.read(0, 0, width, height, 1 / scale)
