"""TIFF and OME-TIFF by tifffile, piece by piece."""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import FileFacts, RgbArray, SumArray
from midog_qupath.slides.headers import damaged
from midog_qupath.slides.pictures import LARGEST_PX, over_white
from midog_qupath.slides.pyramid import levels_of
from midog_qupath.slides.resample import block_sums, read_resampled
from midog_qupath.slides.tiff_size import tiff_pixel_size

#: What tifffile and its decoders raise for bytes that make no sense.
_BROKEN = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ArithmeticError)
#: Pixels of decoded pieces that are kept: two rows of tiles of a window.
_KEPT_PX = 16 << 20
_WHITE_IS_ZERO = 0
#: Photometric interpretations that are RGB or grey once decoded: both greys, RGB, YCbCr.
_READABLE = (0, 1, 2, 6)
_PLANES_APART = 2


class TiffSlide:
    """A TIFF of one scene; its levels are read by segments (tiles or strips), never whole."""

    def __init__(self, path: Path) -> None:
        import tifffile

        # Its warnings about damaged files say nothing that our own error does not.
        logger = logging.getLogger("tifffile")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        self.path = path
        self._lock = threading.Lock()
        #: Decoded pieces by level, number and the squares they are summed over, least recently used first.
        self._kept: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._kept_px = 0
        try:
            self._file: Any = tifffile.TiffFile(path)
        except (*_BROKEN, struct.error, tifffile.TiffFileError) as error:
            raise damaged(path) from error
        try:
            self._pages = _pyramid(self._file)
            self._refuse_unsuitable()
            self._describe()
        except (*_BROKEN, struct.error, tifffile.TiffFileError) as error:
            self._file.close()
            raise damaged(path) from error
        except SlideError:
            self._file.close()
            raise

    def _describe(self) -> None:
        first = self._pages[0]
        self.width, self.height = int(first.imagewidth), int(first.imagelength)
        levels = levels_of([(int(page.imagewidth), int(page.imagelength)) for page in self._pages])
        # Strips are no tiles that QuPath could ask for one by one.
        tile = _segment_size(first) if first.is_tiled else (min(1024, self.width), min(1024, self.height))
        channels = 1 if first.samplesperpixel == 1 else 3
        # In a plain TIFF further images are labels or copies; in an OME-TIFF each is one that QuPath offers.
        scenes = len(self._file.series) if self._file.is_ome else 1
        self.facts = FileFacts(levels, *tile, channels, tiff_pixel_size(self._file), scenes=scenes)
        self.file_mpp = self.facts.pixel_size.mpp if self.facts.pixel_size else None

    def _refuse_unsuitable(self) -> None:
        first = self._pages[0]
        known = first.samplesperpixel in (1, 3, 4) and first.photometric in _READABLE
        if first.dtype != np.uint8 or not known:
            kind = f"{first.dtype}, {first.samplesperpixel} channels, {first.photometric.name.lower()}"
            raise SlideError(
                f"{self.path} is no 8-bit RGB or grey image ({kind}).",
                "Only brightfield images are read; export it as 8-bit RGB.",
            )
        if len(self._file.series[0].pages) > 1:
            raise SlideError(
                f"{self.path} is a stack of images.", "Export the plane that you annotate as 8-bit RGB."
            )
        largest = max(math.prod(_segment_size(page)) for page in self._pages)
        if largest > LARGEST_PX:
            raise SlideError(
                f"{self.path} is stored in one piece of {largest / 1e6:.0f} megapixels.",
                "Convert it to a tiled, pyramidal TIFF (QuPath: File > Export images > OME-TIFF).",
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
        return read_resampled(self.facts.levels, self._level, x, y, width, height, downsample)

    def read_sums(self, x: int, y: int, width: int, height: int, by: int) -> SumArray | None:
        """See :meth:`midog_qupath.slides.base.SummingSlide.read_sums`."""
        if any(length % by for length in (x, y, *_segment_size(self._pages[0]))):
            return None
        result = np.full((height // by, width // by, 3), 255 * by**2, dtype=np.uint16)
        self._fill(result, 0, x, y, by)
        return result

    def _level(self, index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        result = np.full((height, width, 3), 255, dtype=np.uint8)
        self._fill(result, index, x, y, 1)
        return result

    def _fill(self, result: NDArray[Any], index: int, x: int, y: int, by: int) -> None:
        """Paste the pieces of a level that touch ``result``, whose corner lies at x, y of that level."""
        page = self._pages[index]
        wide, tall = _segment_size(page)
        height, width = (length * by for length in result.shape[:2])
        across = -(-page.imagewidth // wide)
        for row in range(max(y, 0) // tall, -(-min(y + height, page.imagelength) // tall)):
            for column in range(max(x, 0) // wide, -(-min(x + width, page.imagewidth) // wide)):
                piece = self._kept_piece(index, row * across + column, by)
                if piece is not None:
                    _paste(result, piece, (column * wide - x) // by, (row * tall - y) // by)

    def _kept_piece(self, index: int, number: int, by: int) -> NDArray[Any] | None:
        """A piece of a level, from memory where it was among the last: windows with a halo share pieces."""
        key = index, number, by
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        page = self._pages[index]
        piece: NDArray[Any] | None = self._piece(page, number)
        if piece is not None and by > 1:
            piece = block_sums(_white_outside(piece, page, number), by)
        if piece is not None and _pixels(piece, by) <= _KEPT_PX // 4:
            with self._lock:
                # Another thread may have been quicker.
                if key not in self._kept:
                    self._kept[key] = piece
                    self._kept_px += _pixels(piece, by)
                while self._kept_px > _KEPT_PX:
                    (_, _, squares), oldest = self._kept.popitem(last=False)
                    self._kept_px -= _pixels(oldest, squares)
        return piece

    def _piece(self, page: Any, number: int) -> RgbArray | None:
        """One tile or strip as RGB; None where the file leaves it out."""
        planes = page.samplesperpixel if page.planarconfig == _PLANES_APART else 1
        apart = len(page.dataoffsets) // planes
        try:
            parts = [self._segment(page, number + plane * apart) for plane in range(planes)]
            known = [part for part in parts if part is not None]
            if len(known) < planes:
                return None
            return _rgb(known[0] if planes == 1 else np.concatenate(known, axis=2), page.photometric)
        except _BROKEN as error:
            raise damaged(self.path) from error

    def _segment(self, page: Any, number: int) -> RgbArray | None:
        handle = self._file.filehandle
        with self._lock:
            handle.seek(page.dataoffsets[number])
            raw = handle.read(page.databytecounts[number])
        piece, _, _ = page.decode(raw, number, jpegtables=page.jpegtables)
        return None if piece is None else piece[0]


def _pyramid(file: Any) -> list[Any]:
    """The full image and its smaller copies: in sub-files of the first page, or in pages of their own."""
    pages = [level.keyframe for level in file.series[0].levels]
    if len(pages) > 1:
        return pages
    first = pages[0]
    flat = [page for page in file.pages[1:] if page.is_reduced and _is_copy(page, first)]
    return [first, *sorted(flat, key=lambda page: -page.imagewidth)]


def _is_copy(page: Any, first: Any) -> bool:
    """Smaller, and of the same shape but for rounding."""
    alike = (page.dtype, page.samplesperpixel) == (first.dtype, first.samplesperpixel)
    height = first.imagelength * page.imagewidth / first.imagewidth
    return alike and page.imagewidth < first.imagewidth and abs(page.imagelength - height) <= 2


def _segment_size(page: Any) -> tuple[int, int]:
    """Width and height of a tile or strip."""
    if page.is_tiled:
        size = int(page.tilewidth), int(page.tilelength)
    else:
        size = int(page.imagewidth), int(min(page.rowsperstrip, page.imagelength))
    if min(size) <= 0:
        raise ValueError(f"segments of {size} pixels")
    return size


def _pixels(piece: NDArray[Any], by: int) -> int:
    return int(piece.shape[0] * piece.shape[1] * by**2)


def _white_outside(piece: RgbArray, page: Any, number: int) -> RgbArray:
    """A whole piece, white where it reaches past the image, whatever the file holds there."""
    wide, tall = _segment_size(page)
    row, column = divmod(number, -(-page.imagewidth // wide))
    height, width = min(tall, page.imagelength - row * tall), min(wide, page.imagewidth - column * wide)
    if (height, width) == (tall, wide):
        return piece
    whole = np.full((tall, wide, 3), 255, dtype=np.uint8)
    _paste(whole, piece[:height, :width], 0, 0)
    return whole


def _rgb(piece: RgbArray, photometric: int) -> RgbArray:
    if piece.shape[2] == 4:
        return over_white(piece[..., :3], piece[..., 3])
    rgb = np.repeat(piece, 3, axis=2) if piece.shape[2] == 1 else piece
    return 255 - rgb if photometric == _WHITE_IS_ZERO else rgb


def _paste(target: NDArray[Any], piece: NDArray[Any], x: int, y: int) -> None:
    """Put a piece whose corner lies at x, y (may be negative) into the target."""
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + piece.shape[0], target.shape[0]), min(x + piece.shape[1], target.shape[1])
    if y1 > y0 and x1 > x0:
        target[y0:y1, x0:x1] = piece[y0 - y : y1 - y, x0 - x : x1 - x]
