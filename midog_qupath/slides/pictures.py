"""PNG, JPEG and BMP by OpenCV; loaded whole, so only up to 200 megapixels."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import FileFacts, Level, RgbArray
from midog_qupath.slides.headers import damaged, read_header
from midog_qupath.slides.resample import read_resampled
from midog_qupath.units import MicronsPerPixel

#: Nothing larger is ever held in memory whole.
LARGEST_PX = 200_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})


class PictureSlide:
    """A small image; its pixels are decoded when they are first read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header = read_header(path, _read_bytes(path))
        self.width, self.height = header.width, header.height
        if self.width * self.height > LARGEST_PX:
            raise SlideError(
                f"{path} has {self.width * self.height / 1e6:.0f} megapixels and would be loaded whole.",
                "Convert it to a pyramidal TIFF (QuPath: File > Export images > OME-TIFF).",
            )
        if header.bits > 8:
            raise SlideError(f"{path} has {header.bits} bits a channel.", "Convert it to 8-bit RGB.")
        # QuPath reads no pixel size from such files either.
        self.file_mpp: MicronsPerPixel | None = None
        self.facts = FileFacts(
            (Level(self.width, self.height, 1.0),), self.width, self.height, header.channels
        )
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
        return read_resampled(self.facts.levels, self._level, x, y, width, height, downsample)

    def _level(self, index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        # Two threads may both decode at first; both get the same pixels.
        pixels = self._pixels
        if pixels is None:
            pixels = self._pixels = _decode(self.path, (self.height, self.width))
        return pixels[y : y + height, x : x + width]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SlideError(f"{path} cannot be read: {error.strerror}.", "Check the file.") from error


def _decode(path: Path, size: tuple[int, int]) -> RgbArray:
    # Through bytes: OpenCV cannot open paths with letters outside the system's code page on Windows.
    raw = np.frombuffer(_read_bytes(path), dtype=np.uint8)
    # QuPath shows the pixels as they are stored, whatever EXIF says of the camera's orientation.
    image = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.dtype != np.uint8 or image.shape[:2] != size:
        raise damaged(path)
    if image.ndim == 2:
        return np.ascontiguousarray(np.repeat(image[..., None], 3, axis=2))
    rgb = np.ascontiguousarray(image[..., 2::-1])
    return over_white(rgb, image[..., 3]) if image.shape[2] == 4 else rgb


def over_white(rgb: RgbArray, alpha: NDArray[np.uint8]) -> RgbArray:
    """(H, W, 3) RGB with (H, W) opacity (255 = opaque) laid on white."""
    if alpha.min() == 255:
        return rgb
    cover = alpha[..., None].astype(np.uint16)
    # 255 * 255 + 127 still fits 16 bits.
    return ((rgb * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8)
