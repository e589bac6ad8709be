"""TIFF and OME-TIFF by tifffile, tile by tile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

import numpy as np

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import RgbArray
from midog_qupath.slides.pictures import LARGEST_PX, damaged
from midog_qupath.slides.resample import Level, read_resampled
from midog_qupath.units import MicronsPerPixel

#: Microns per TIFF resolution unit: inch, centimetre, millimetre, micrometre.
_UNITS = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}
_TO_MICRONS = {"": 1.0, "µm": 1.0, "um": 1.0, "mm": 1_000.0, "nm": 0.001, "cm": 10_000.0}


class TiffSlide:
    """A TIFF of one scene; its levels are read by segments (tiles or strips), never whole."""

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        try:
            self._file: Any = tifffile.TiffFile(path)
            series = self._file.series[0]
            self._pages = [level.keyframe for level in series.levels]
        except (tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise damaged(path) from error
        first = self._pages[0]
        self.width, self.height = int(first.imagewidth), int(first.imagelength)
        self._refuse_unsuitable(first)
        self._levels = [
            Level(int(page.imagewidth), int(page.imagelength), self.width / int(page.imagewidth))
            for page in self._pages
        ]
        self.file_mpp = _pixel_size(self._file, first)

    def _refuse_unsuitable(self, page: Any) -> None:
        if page.dtype != np.uint8 or page.samplesperpixel not in (1, 3, 4) or page.planarconfig == 2:
            raise SlideError(
                f"{self.path} is no 8-bit RGB or grey image ({page.dtype}, {page.samplesperpixel} channels).",
                "Only brightfield images are read; export it as 8-bit RGB.",
            )
        largest = (
            page.rowsperstrip * page.imagewidth if not page.is_tiled else page.tilewidth * page.tilelength
        )
        if largest > LARGEST_PX:
            raise SlideError(
                f"{self.path} is stored in one piece of {largest / 1e6:.0f} megapixels.",
                "Convert it to a tiled, pyramidal TIFF.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[TiffSlide], tuple[Path]]:
        return (TiffSlide, (self.path,))

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> RgbArray:
        """See :meth:`midog_qupath.slides.base.Slide.read`."""
        return read_resampled(self._levels, self._level, x, y, width, height, downsample)

    def _level(self, index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        page = self._pages[index]
        tall = page.tilelength if page.is_tiled else page.rowsperstrip
        wide = page.tilewidth if page.is_tiled else page.imagewidth
        across = -(-page.imagewidth // wide)
        result = np.full((height, width, 3), 255, dtype=np.uint8)
        for row in range(y // tall, (y + height - 1) // tall + 1):
            for column in range(x // wide, (x + width - 1) // wide + 1):
                piece = self._segment(page, row * across + column)
                _paste(result, piece, column * wide - x, row * tall - y)
        return result

    def _segment(self, page: Any, number: int) -> RgbArray:
        handle = self._file.filehandle
        try:
            handle.seek(page.dataoffsets[number])
            raw = handle.read(page.databytecounts[number])
            piece, _, shape = page.decode(raw, number, jpegtables=page.jpegtables)
        except (ValueError, RuntimeError, OSError, IndexError, TypeError) as error:
            raise damaged(self.path) from error
        if piece is None:
            return np.full((*shape[-3:-1], 3), 255, dtype=np.uint8)
        piece = np.asarray(piece).reshape(shape[-3:]) if np.ndim(piece) != 4 else np.asarray(piece)[0]
        return np.repeat(piece, 3, axis=2) if piece.shape[2] == 1 else piece[..., :3]


def _paste(target: RgbArray, piece: RgbArray, x: int, y: int) -> None:
    """Put a piece whose corner lies at x, y (may be negative) into the target."""
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + piece.shape[0], target.shape[0]), min(x + piece.shape[1], target.shape[1])
    if y1 > y0 and x1 > x0:
        target[y0:y1, x0:x1] = piece[y0 - y : y1 - y, x0 - x : x1 - x]


def _pixel_size(file: Any, page: Any) -> MicronsPerPixel | None:
    """From OME metadata, else from the resolution tags, else None."""
    found = _from_ome(file.ome_metadata or "")
    if found is not None:
        return found
    tags = page.tags
    unit = _UNITS.get(int(tags["ResolutionUnit"].value)) if "ResolutionUnit" in tags else None
    sizes = []
    for name in ("XResolution", "YResolution"):
        if name not in tags or unit is None:
            return None
        numerator, denominator = tags[name].value
        if not numerator or not denominator:
            return None
        sizes.append(unit * denominator / numerator)
    mean = sum(sizes) / 2
    # 72 and 96 dots an inch are what programs write that know nothing.
    return MicronsPerPixel(mean) if 0.01 < mean < 100 else None


def _from_ome(text: str) -> MicronsPerPixel | None:
    sizes = []
    for axis in "XY":
        value = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', text)
        unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]*)"', text)
        factor = _TO_MICRONS.get(unit.group(1) if unit else "µm")
        if value is None or factor is None:
            return None
        sizes.append(float(value.group(1)) * factor)
    return MicronsPerPixel(sum(sizes) / 2)
