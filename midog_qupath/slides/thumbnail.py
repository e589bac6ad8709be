"""A whole image, small."""

from __future__ import annotations

from midog_qupath.slides.base import RgbArray, Slide


def thumbnail(slide: Slide, max_side: int) -> RgbArray:
    """The whole image as (H, W, 3) uint8 RGB, its longer side at most ``max_side`` pixels; never enlarged."""
    downsample = max(1.0, slide.width / max_side, slide.height / max_side)
    width, height = (max(1, round(side / downsample)) for side in (slide.width, slide.height))
    return slide.read(0, 0, width, height, downsample)
