"""Whole-slide formats by OpenSlide, with the coordinates that QuPath shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import FileFacts, Level, PixelSize, RgbArray, pixel_size
from midog_qupath.slides.pyramid import levels_of
from midog_qupath.slides.resample import read_resampled

NO_CROP = "--no-crop"
_BOUNDS = ("x", "y", "width", "height")


def bounds(
    properties: Mapping[str, str], size: tuple[int, int], args: Sequence[str]
) -> tuple[int, int, int, int]:
    """x, y, width, height of what QuPath shows: the scanned bounds of MRXS and others, else everything.

    With ``--no-crop`` QuPath shows everything. (OpenslideImageServer.java of QuPath 0.6.)
    """
    values = [properties.get(f"openslide.bounds-{name}", "") for name in _BOUNDS]
    if NO_CROP in args or not all(value.isdecimal() for value in values):
        return 0, 0, *size
    x, y, width, height = (int(value) for value in values)
    return x, y, width, height


def slide_pixel_size(properties: Mapping[str, str]) -> PixelSize | None:
    """Microns per pixel from the file, else a guess from the objective's power, else None."""
    x, y = (_positive(properties, f"openslide.mpp-{axis}") for axis in "xy")
    known = pixel_size(x, y)
    power = magnification(properties)
    if known is not None or power is None:
        return known
    # The field's rule of thumb: 40x is 0.25 um/px.
    return pixel_size(10 / power, 10 / power, guessed=True)


def magnification(properties: Mapping[str, str]) -> float | None:
    """Power of the objective, or None."""
    return _positive(properties, "openslide.objective-power")


def _positive(properties: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(properties.get(name, ""))
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


class OpenSlideSlide:
    """A slide that OpenSlide opens. ``args`` are the arguments of QuPath's server builder."""

    def __init__(self, path: Path, args: Sequence[str] = ()) -> None:
        import openslide

        self.path, self._args = path, tuple(args)
        try:
            self._slide: Any = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{path} cannot be opened as a slide ({error}).", "Copy it again from its source."
            ) from error
        properties = dict(self._slide.properties)
        self._x, self._y, self.width, self.height = bounds(properties, self._slide.dimensions, self._args)
        self.facts = FileFacts(
            self._levels(),
            tile_width=int(_positive(properties, "openslide.level[0].tile-width") or 256),
            tile_height=int(_positive(properties, "openslide.level[0].tile-height") or 256),
            pixel_size=slide_pixel_size(properties),
            magnification=magnification(properties),
        )
        self.file_mpp = self.facts.pixel_size.mpp if self.facts.pixel_size else None

    def _levels(self) -> tuple[Level, ...]:
        levels = levels_of(self._slide.level_dimensions)
        if (self.width, self.height) == self._slide.dimensions:
            return levels
        return tuple(
            Level(int(self.width / level.downsample), int(self.height / level.downsample), level.downsample)
            for level in levels
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[OpenSlideSlide], tuple[Path, tuple[str, ...]]]:
        return (OpenSlideSlide, (self.path, self._args))

    def close(self) -> None:
        """Release the file."""
        self._slide.close()

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> RgbArray:
        """See :meth:`midog_qupath.slides.base.Slide.read`."""
        return read_resampled(self.facts.levels, self._level, x, y, width, height, downsample)

    def _level(self, index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        import openslide

        # OpenSlide finds pixels of a level by the plain ratio of sizes, which is a little off.
        given, scale = self.facts.levels[index].downsample, self._slide.level_downsamples[index]
        corner = (round((self._x / given + x) * scale), round((self._y / given + y) * scale))
        try:
            rgba = np.asarray(self._slide.read_region(corner, index, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self.path} cannot be read at x {corner[0]}, y {corner[1]} ({error}).",
                "The file is damaged: copy it again from its source.",
            ) from error
        # OpenSlide leaves what was not scanned transparent; on glass that is white.
        rgb = rgba[..., :3].copy()
        rgb[rgba[..., 3] == 0] = 255
        return rgb
