"""The mitosis probability of a whole image as a pyramidal OME-TIFF that QuPath opens.

One pixel for each of the network's output, 0 to 255 for 0 to 1. It is gathered in a file, so that memory
does not grow with the slide.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.inference.read import Batch
from midog_qupath.inference.segment import Seen

_TILE = 512
#: Levels are added until one fits in a tile of this side.
_SMALLEST = 1024
#: Rows of a level that are averaged at once.
_ROWS = 2048


class HeatMap:
    """Gathers probabilities in ``scratch`` (kept when interrupted) and writes them at the end.

    ``size``: width, height of the image in working pixels; ``stride``: working pixels per map pixel.
    """

    def __init__(self, scratch: Path, size: tuple[float, float], stride: int) -> None:
        self._stride, self._scratch = stride, scratch
        shape = tuple(max(1, -(-int(side) // stride)) for side in reversed(size))
        scratch.parent.mkdir(parents=True, exist_ok=True)
        fits = scratch.is_file() and scratch.stat().st_size == shape[0] * shape[1]
        self._map = np.memmap(scratch, np.uint8, "r+" if fits else "w+", shape=shape)

    def put(self, batch: Batch, seen: Seen) -> None:
        """Keep the cores of the windows of a batch."""
        levels = (seen.probability * 255).round().byte().cpu().numpy()
        for tile, level in zip(batch.tiles, levels, strict=True):
            x, y, left, top, width, height = (
                round(side) // self._stride
                for side in (tile.x, tile.y, tile.left, tile.top, tile.width, tile.height)
            )
            target = self._map[y : y + height, x : x + width]
            target[:] = level[top : top + target.shape[0], left : left + target.shape[1]]

    def write(self, path: Path, pixel_um: float) -> None:
        """Write the OME-TIFF; ``pixel_um``: side of a map pixel in microns."""
        import tifffile

        self._map.flush()
        levels = self._levels()
        metadata = {
            "axes": "YX",
            "PhysicalSizeX": pixel_um,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": pixel_um,
            "PhysicalSizeYUnit": "µm",
        }
        # The writer needs a name, not a stream.
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as writer:
                for index, level in enumerate(levels):
                    writer.write(
                        _tiles(level),
                        shape=level.shape,
                        dtype=np.uint8,
                        tile=(_TILE, _TILE),
                        compression="zlib",
                        photometric="minisblack",
                        metadata=metadata if index == 0 else None,
                        subifds=len(levels) - 1 if index == 0 else None,
                        subfiletype=0 if index == 0 else 1,
                    )
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        del self._map
        for number in range(len(levels)):
            self._level_path(number).unlink(missing_ok=True)

    def _level_path(self, number: int) -> Path:
        return self._scratch if number == 0 else self._scratch.with_suffix(f".{number}")

    def _levels(self) -> list[NDArray[np.uint8]]:
        levels: list[NDArray[np.uint8]] = [self._map]
        while max(levels[-1].shape) > _SMALLEST:
            finer = levels[-1]
            shape = (-(-finer.shape[0] // 2), -(-finer.shape[1] // 2))
            coarser = np.memmap(self._level_path(len(levels)), np.uint8, "w+", shape=shape)
            for row in range(0, shape[0], _ROWS):
                part = finer[2 * row : 2 * (row + _ROWS)]
                even = np.pad(part, [(0, side % 2) for side in part.shape], mode="edge")
                size = (even.shape[1] // 2, even.shape[0] // 2)
                coarser[row : row + _ROWS] = cv2.resize(even, size, interpolation=cv2.INTER_AREA)
            levels.append(coarser)
        return levels


def _tiles(level: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for y in range(0, level.shape[0], _TILE):
        for x in range(0, level.shape[1], _TILE):
            tile = np.zeros((_TILE, _TILE), np.uint8)
            part = level[y : y + _TILE, x : x + _TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
