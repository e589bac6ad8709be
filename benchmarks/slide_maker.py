"""Large pyramids from small real (or generated) tiles: mirrored so that no seam shows, with glass around."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from shapely.geometry import Polygon

_TILE = 512
_GLASS = (243, 241, 243)


@dataclass(frozen=True)
class MadeSlide:
    """A slide of ``side`` x ``side`` pixels and the outline (slide pixels) of its tissue."""

    path: Path
    side: int
    tissue: Polygon


def source_tile(data: Path | None) -> NDArray[np.uint8]:
    """A field of tissue with an even number of whole tiles: a real one, else a generated one."""
    fields = sorted((data / "breast-mitosis" / "images").glob("midesec*.png")) if data else []
    if len(fields) < 4:
        noise = np.random.default_rng(0).normal(0, 1, (2 * 1024, 2 * 1024, 3))
        blurred = cv2.GaussianBlur(noise, (0, 0), 9)
        tint = np.array([190, 130, 180])
        return np.clip(tint + blurred / blurred.std() * 25, 0, 255).astype(np.uint8)
    rows = [[cv2.imread(str(field))[..., ::-1] for field in fields[i : i + 2]] for i in (0, 2)]
    return np.ascontiguousarray(np.vstack([np.hstack(row) for row in rows])[: 2 * 1024, : 2 * 1024])


def make_slide(path: Path, source: NDArray[np.uint8], side: int, share: float = 0.35) -> MadeSlide:
    """Write a JPEG pyramid of ``side`` x ``side`` pixels, ``share`` of it one round piece of tissue."""
    radius = side * (share / np.pi) ** 0.5
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    reach = radius * (1 + 0.12 * np.sin(3 * angles) + 0.05 * np.sin(7 * angles + 1))
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None] + side / 2
    tissue = Polygon(points)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level in range(_levels(side)):
            step = 2**level
            size = -(-side // step)
            writer.write(
                _tiles(source, tissue, size, step),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(_TILE, _TILE),
                photometric="rgb",
                subsampling=(2, 2),
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=0 if level == 0 else 1,
                resolution=(4e4 / step, 4e4 / step),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return MadeSlide(path, side, tissue)


def _levels(side: int) -> int:
    return max(1, int(np.ceil(np.log2(side / 1024))) + 1)


def _tiles(source: NDArray[np.uint8], tissue: Polygon, size: int, step: int) -> Iterator[NDArray[np.uint8]]:
    small = cv2.resize(source, None, fx=1 / step, fy=1 / step, interpolation=cv2.INTER_AREA)
    outline = np.round(np.asarray(tissue.exterior.coords) / step).astype(np.int32)
    shapely.prepare(tissue)
    for y in range(0, size, _TILE):
        for x in range(0, size, _TILE):
            tile = np.full((_TILE, _TILE, 3), _GLASS, np.uint8)
            if tissue.intersects(shapely.box(x * step, y * step, (x + _TILE) * step, (y + _TILE) * step)):
                mask = np.zeros((_TILE, _TILE), np.uint8)
                cv2.fillPoly(mask, [outline - (x, y)], 1)
                tile[mask > 0] = _cut(small, x, y)[mask > 0]
            yield tile


def _cut(small: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    """(512, 512, 3) of the endless mirrored tiling of ``small``."""
    side = small.shape[0]
    index = [(np.arange(at, at + _TILE) // side % 2, np.arange(at, at + _TILE) % side) for at in (y, x)]
    rows, columns = (np.where(odd == 1, side - 1 - place, place) for odd, place in index)
    return small[rows[:, None], columns[None, :]]
