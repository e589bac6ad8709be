"""Images in every form that readers meet, with the pixels they must give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from midog_qupath.slides.base import RgbArray


def speckled(height: int = 150, width: int = 230, seed: int = 0) -> RgbArray:
    """Every pixel different: a shift by one is seen everywhere."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 150, width: int = 230, seed: int = 0) -> RgbArray:
    """Blobs that lossy compression leaves nearly as they are."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3))
    blurred = cv2.GaussianBlur(noise, (0, 0), 9)
    return np.clip(140 + blurred / blurred.std() * 35, 0, 255).astype(np.uint8)


def write_picture(path: Path, rgb: RgbArray) -> Path:
    """PNG, JPEG or BMP by its ending; grey when (H, W)."""
    pixels = rgb if rgb.ndim == 2 else rgb[..., ::-1]
    done, data = cv2.imencode(path.suffix, pixels)
    assert done
    path.write_bytes(data.tobytes())
    return path


def write_tiff(path: Path, rgb: RgbArray, **options: Any) -> Path:
    """One page, RGB unless the options say otherwise."""
    tifffile.imwrite(path, rgb, **{"photometric": "rgb", **options})
    return path


def write_pyramid(path: Path, rgb: RgbArray, inside: bool, ome: bool = False, mpp: float = 0.25) -> Path:
    """Levels 1, 2, 4: in sub-files of the first page (``inside``) or in pages of their own."""
    metadata = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp} if ome else None
    common: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=ome) as writer:
        first = {"subifds": 2} if inside else {}
        resolution = {} if ome else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
        writer.write(rgb, metadata=metadata, **first, **resolution, **common)
        for step in (2, 4):
            half = cv2.resize(rgb, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
            writer.write(half, subfiletype=1, metadata=None, **common)
    return path
