"""Whole-slide formats by OpenSlide, with the coordinates that QuPath shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import RgbArray
from midog_qupath.slides.resample import Level, read_resampled
from midog_qupath.units import MicronsPerPixel

NO_CROP = "--no-crop"
_BOUNDS = ("x", "y", "width", "height")


def bounds(
    properties: Mapping[str, str], size: tuple[int, int], args: Sequence[str]
) -> tuple[int, int, int, int]:
    """x, y, width, height of what QuPath shows: the scanned bounds of MRXS and others, else everything.

    With ``--no-crop`` QuPath shows everything. (OpenslideImageServer.java of QuPath 0.6.)
    """
    values = [properties.get(f"openslide.bounds-{name}") for name in _BOUNDS]
    if NO_CROP in args or any(value is None for value in values):
        return 0, 0, *size
    x, y, width, height = (int(str(value)) for value in values)
    return x, y, width, height


def pixel_size(properties: Mapping[str, str]) -> MicronsPerPixel | None:
    """Microns per pixel from the file: mean of both axes, else from the objective's power, else None."""
    try:
        sizes = [float(properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
    except (KeyError, ValueError):
        return _from_objective(properties)
    mean = sum(sizes) / 2
    return MicronsPerPixel(mean) if mean > 0 else None


def _from_objective(properties: Mapping[str, str]) -> MicronsPerPixel | None:
    # The field's rule of thumb: 40x is 0.25 um/px.
    try:
        power = float(properties["openslide.objective-power"])
    except (KeyError, ValueError):
        return None
    return MicronsPerPixel(10 / power) if power > 0 else None


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
        self.file_mpp = pixel_size(properties)
        self._levels = [
            Level(int(np.ceil(self.width / d)), int(np.ceil(self.height / d)), float(d))
            for d in self._slide.level_downsamples
        ]

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
        return read_resampled(self._levels, self._level, x, y, width, height, downsample)

    def _level(self, index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        import openslide

        scale = self._levels[index].downsample
        corner = (self._x + round(x * scale), self._y + round(y * scale))
        try:
            rgba = np.asarray(self._slide.read_region(corner, index, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self.path} cannot be read at x {corner[0]}, y {corner[1]} ({error}).",
                "The file is damaged: copy it again from its source.",
            ) from error
        # OpenSlide leaves what was not scanned transparent; on glass that is white.
        alpha = rgba[..., 3:]
        return np.where(alpha == 0, np.uint8(255), rgba[..., :3])
