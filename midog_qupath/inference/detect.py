"""Mitotic figures of one image: tiles, network, candidates, one detection an object.

Memory does not grow with the image: two batches of tiles and the candidates found are held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from midog_qupath.dataset.areas import working_downsample
from midog_qupath.detection import Detection
from midog_qupath.inference.forward import CANDIDATE_FLOOR, classify, detect_batch, network_device
from midog_qupath.inference.grid import Tile, cell_tiles, grid_tiles, round_up, touching
from midog_qupath.inference.merge import merge
from midog_qupath.inference.outline import REACH
from midog_qupath.inference.read import read_batches
from midog_qupath.models.bundle import Bundle
from midog_qupath.slides.base import Slide
from midog_qupath.units import MicronsPerPixel

#: Mirrored border around the cell of a mosaic, in working pixels.
CELL_HALO = 32
#: Side of the window around a given position, in working pixels.
POSITION_WINDOW = 192


@dataclass(frozen=True)
class Tiling:
    """How an image is cut, in working pixels: largest core, halo, and window pixels in a batch (by device).

    The halo must hold the outline of a figure at the core's border (9 um) and what the network needs to
    see around it.
    """

    core: int = 1024
    halo: int = 64
    batch_cpu: int = 1_500_000
    batch_gpu: int = 12_000_000

    def batch_pixels(self, device: torch.device) -> int:
        """Window pixels that go through the network together."""
        return self.batch_cpu if device.type == "cpu" else self.batch_gpu


def _ignore(share: float) -> None:
    return None


def detect(
    slide: Slide,
    mpp: float,
    bundle: Bundle,
    area: BaseGeometry | None = None,
    *,
    minimum_probability: float | None = None,
    cell_px: float | None = None,
    tiling: Tiling | None = None,
    advance: Callable[[float], None] = _ignore,
) -> list[Detection]:
    """Detections of one image in slide pixels, most probable first, no two within 7.5 um.

    Parameters
    ----------
    slide, mpp
        The open image and the microns of one of its pixels.
    bundle
        The model; it runs on the device where its weights lie.
    area
        Slide pixels; only detections with their centre in it are given. None: the whole image.
    minimum_probability
        Lowest mitosis probability given; None: the model's own threshold. Lower values are for curves.
    cell_px
        Side in slide pixels of the cells of a mosaic: no cell sees its neighbours.
    tiling
        How the image is cut; None: the default.
    advance
        Called with the share done, 1 in all.
    """
    lowest = bundle.card.threshold if minimum_probability is None else minimum_probability
    plan = tiling or Tiling()
    downsample = working_downsample(MicronsPerPixel(mpp))
    size = (slide.width / downsample, slide.height / downsample)
    tiles = plan_tiles(size, plan, area, downsample, bundle.card.mpp, cell_px)
    floor = min(CANDIDATE_FLOOR, max(bundle.uncalibrated_mitosis(lowest), 1e-6))
    found: list[Detection] = []
    for batch in read_batches(slide, tiles, downsample, plan.batch_pixels(network_device(bundle))):
        candidates = detect_batch(bundle, batch, size, floor)
        found += [_to_slide(c, downsample) for c in candidates if c.mitosis_probability >= lowest]
        advance(len(batch.tiles) / len(tiles))
    return merge(_inside(found, area), mpp)


def plan_tiles(
    size: tuple[float, float],
    tiling: Tiling,
    area: BaseGeometry | None,
    downsample: float,
    working_mpp: float,
    cell_px: float | None,
) -> list[Tile]:
    """The tiles that an area needs. ``size``: width, height of the image in working pixels."""
    if cell_px:
        tiles = cell_tiles(*size, cell_px / downsample, CELL_HALO)
    else:
        tiles = grid_tiles(int(np.ceil(size[0])), int(np.ceil(size[1])), tiling.core, tiling.halo)
    # A figure whose centre lies in the area can have its peak a little outside.
    return tiles if area is None else touching(tiles, area, downsample, REACH / working_mpp)


def classify_at(
    slide: Slide,
    mpp: float,
    bundle: Bundle,
    points: NDArray[np.float64],
    cell_px: float | None = None,
) -> NDArray[np.float64]:
    """Probabilities (N, 3) of not a mitosis, normal, atypical at given (N, 2) x, y in slide pixels.

    Each position is looked at in a window of its own (in a mosaic: in its mirrored cell), so the result
    does not depend on the other positions.
    """
    downsample = working_downsample(MicronsPerPixel(mpp))
    tiles = [_tile_at(x / downsample, y / downsample, cell_px and cell_px / downsample) for x, y in points]
    parts = [np.empty((0, 3))]
    done = 0
    for batch in read_batches(slide, tiles, downsample, Tiling().batch_pixels(network_device(bundle))):
        here = points[done : done + len(batch.tiles)] / downsample
        positions = [
            (index, y - tile.y + tile.margin, x - tile.x + tile.margin)
            for index, (tile, (x, y)) in enumerate(zip(batch.tiles, here, strict=True))
        ]
        with torch.inference_mode():
            images = torch.from_numpy(batch.pixels).to(network_device(bundle))
            features = bundle.network(bundle.normalise(images)).features
            parts.append(classify(bundle, features, np.array(positions, dtype=np.float64)))
        done += len(batch.tiles)
    return np.concatenate(parts)


def _tile_at(x: float, y: float, cell: float | None) -> Tile:
    if not cell:
        half = POSITION_WINDOW / 2
        side = POSITION_WINDOW
        return Tile(x - half, y - half, side, side, 0, side, side)
    side = round(cell)
    window = round_up(side + 2 * CELL_HALO)
    return Tile(x // cell * cell, y // cell * cell, side, side, CELL_HALO, window, window, mirrored=True)


def _to_slide(candidate: Detection, downsample: float) -> Detection:
    polygon = shapely.transform(candidate.polygon, lambda xy: xy * downsample)
    return Detection(
        candidate.x * downsample,
        candidate.y * downsample,
        candidate.mitosis_probability,
        candidate.atypical_probability,
        polygon,
    )


def _inside(detections: Sequence[Detection], area: BaseGeometry | None) -> list[Detection]:
    if area is None or not detections:
        return list(detections)
    shapely.prepare(area)
    within = shapely.intersects_xy(area, [d.x for d in detections], [d.y for d in detections])
    return [detection for detection, wanted in zip(detections, within, strict=True) if wanted]
