"""PNG, JPEG and BMP by OpenCV; loaded whole, so only up to 200 megapixels."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import cv2
import numpy as np

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import RgbArray
from midog_qupath.slides.resample import Level, read_resampled
from midog_qupath.units import MicronsPerPixel

LARGEST_PX = 200_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class PictureSlide:
    """A small image; its pixels are decoded when they are first read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = _read_bytes(path)
        self.width, self.height = _size(path, data)
        if self.width * self.height > LARGEST_PX:
            raise SlideError(
                f"{path} has {self.width * self.height / 1e6:.0f} megapixels and would be loaded whole.",
                "Convert it to a pyramidal TIFF (QuPath: File > Export images > OME-TIFF).",
            )
        _refuse_truncated(path, data)
        self.file_mpp: MicronsPerPixel | None = None
        self._pixels: RgbArray | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[PictureSlide], tuple[Path]]:
        return (PictureSlide, (self.path,))

    def close(self) -> None:
        """Forget the pixels."""
        self._pixels = None

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> RgbArray:
        """See :meth:`midog_qupath.slides.base.Slide.read`."""
        level = Level(self.width, self.height, 1.0)
        return read_resampled([level], self._level, x, y, width, height, downsample)

    def _level(self, index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        if self._pixels is None:
            self._pixels = _decode(self.path)
        return self._pixels[y : y + height, x : x + width]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SlideError(f"{path} cannot be read: {error.strerror}.", "Check the file.") from error


def _decode(path: Path) -> RgbArray:
    # Through bytes: OpenCV cannot open paths with letters outside the system's code page on Windows.
    raw = np.frombuffer(_read_bytes(path), dtype=np.uint8)
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(raw, flags)
    if image is None:
        raise damaged(path)
    if image.dtype != np.uint8:
        raise SlideError(f"{path} has more than 8 bits a channel.", "Convert it to 8-bit RGB.")
    if image.ndim == 2:
        return np.ascontiguousarray(np.repeat(image[..., None], 3, axis=2))
    rgb = image[..., 2::-1]
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        rgb = (rgb * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.ascontiguousarray(rgb)


def damaged(path: Path) -> SlideError:
    """The error for an image that is cut short or whose bytes are not what its name says."""
    return SlideError(
        f"{path} is damaged, cut short, or no image of its kind.", "Copy it again from its source."
    )


def _size(path: Path, data: bytes) -> tuple[int, int]:
    """Width and height from the header alone."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(path, data)
    if data[:2] == b"BM" and len(data) >= 26:
        width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
        return width, abs(height)
    raise damaged(path)


def _jpeg_size(path: Path, data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _JPEG_SIZES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise damaged(path)


def _refuse_truncated(path: Path, data: bytes) -> None:
    """A decoder fills what is missing with grey and says nothing: look for the end marks."""
    is_png = data[:4] == b"\x89PNG"
    is_jpeg = data[:2] == b"\xff\xd8"
    if (is_png and b"IEND" not in data[-64:]) or (is_jpeg and b"\xff\xd9" not in data[-4096:]):
        raise damaged(path)
