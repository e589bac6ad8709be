"""Mitotic figures of one image: windows, network, candidates, one detection an object.

Memory does not grow with the image: a few windows and the candidates found are held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from midog_qupath.dataset.areas import working_downsample
from midog_qupath.detection import Detection
from midog_qupath.inference.device import network_device
from midog_qupath.inference.forward import candidate_floor, candidates, classify
from midog_qupath.inference.grid import SIZE_MULTIPLE, Tile, cell_tiles, round_up, touching
from midog_qupath.inference.heap import Heap
from midog_qupath.inference.merge import merge
from midog_qupath.inference.outline import REACH
from midog_qupath.inference.plan import Cutting, cut_image
from midog_qupath.inference.profile import Stages
from midog_qupath.inference.read import Batch, read_batches
from midog_qupath.inference.readers import ReaderPool
from midog_qupath.inference.segment import Frugal, Seen, Segmenter, TorchSegmenter
from midog_qupath.models.bundle import Bundle
from midog_qupath.slides.base import FileSlide, Slide
from midog_qupath.units import MicronsPerPixel

#: Mirrored border around the cell of a mosaic, in working pixels.
CELL_HALO = 32
#: Side of the window around a given position, in working pixels.
POSITION_WINDOW = 192
#: Largest core where nobody says otherwise, on a CPU and elsewhere: larger ones are no faster on a CPU, what
#: less halo saves is lost in its cache.
_CORE_CPU, _CORE = 2048, 3072
#: Window pixels that small windows are put together up to, on a CPU and elsewhere.
_TOGETHER_CPU, _TOGETHER = 1_500_000, 12_000_000


@dataclass(frozen=True)
class Tiling:
    """How an image is cut, in working pixels; None: as suits model and device.

    ``core``: largest core of a window. ``halo``: what is seen around a core, at least the outline of a
    figure at its border (9 um). ``together``: window pixels up to which windows of one size form a batch.
    """

    core: int | None = None
    halo: int | None = None
    together: int | None = None

    @staticmethod
    def of_batch(batch: int) -> Tiling:
        """Windows whose core holds at most ``batch`` squares of 1024 x 1024 pixels."""
        side = int(1024 * batch**0.5) // SIZE_MULTIPLE * SIZE_MULTIPLE
        return Tiling(core=side, together=max(1, batch) * 1_500_000)

    def batch_pixels(self, device: torch.device) -> int:
        """Window pixels that go through the network together, where windows are small."""
        if self.together is not None:
            return self.together
        return _TOGETHER_CPU if device.type == "cpu" else _TOGETHER


class Memory(Protocol):
    """What an interrupted search of an image had done."""

    def recall(self, tiles: Sequence[Tile]) -> tuple[int, list[Detection]]:
        """Number of tiles done and what they gave, if it was these tiles; else 0 and nothing."""
        ...

    def keep(self, done: int, found: Sequence[Detection], now: bool = False) -> None:
        """Remember it, at once or when it is time to."""
        ...


class ProbabilityMap(Protocol):
    """Takes the probabilities of the windows, in any order."""

    def put(self, batch: Batch, seen: Seen) -> None:
        """Keep the cores of the windows of a batch."""
        ...


@dataclass(frozen=True)
class Runtime:
    """With what an image is searched.

    ``segmenter``: makes of a model what is run; ``readers``: who reads; ``stages``: counts the time.
    """

    segmenter: Callable[[Bundle], Segmenter] = TorchSegmenter
    tiling: Tiling = Tiling()
    readers: ReaderPool = field(default_factory=ReaderPool)
    stages: Stages = field(default_factory=Stages)


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
    runtime: Runtime | None = None,
    memory: Memory | None = None,
    heatmap: ProbabilityMap | None = None,
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
        How the image is cut; None: that of the runtime.
    runtime
        Precision, readers and so on; None: the reference, fp32 with a thread that reads.
    memory
        Where to go on, and where to leave what was done.
    heatmap
        Gets every probability.
    advance
        Called with the share done, 1 in all.
    """
    runtime = runtime or Runtime()
    lowest = bundle.card.threshold if minimum_probability is None else minimum_probability
    segmenter = Frugal(runtime.segmenter(bundle), bundle.card.halo)
    plan = _filled(tiling or runtime.tiling, bundle)
    downsample = working_downsample(MicronsPerPixel(mpp))
    size = (slide.width / downsample, slide.height / downsample)
    tiles = plan_tiles(size, plan, area, downsample, bundle.card.mpp, cell_px, _alignment(slide, downsample))
    done, found = memory.recall(tiles) if memory else (0, [])
    progress = _Shares(tiles, advance)
    progress.upto(done)
    stages, floor = runtime.stages, candidate_floor(bundle, lowest)
    together = plan.batch_pixels(network_device(bundle))
    batches = runtime.readers.batches(slide, tiles[done:], downsample, together, segmenter.reduce)

    def look(batch: Batch) -> list[Detection]:
        # The maps are gone when this returns: those of the next window would come on top of them.
        new: list[Detection] = []
        for part, seen in stages.waiting("network", segmenter.each(batch)):
            new += candidates(bundle, seen, part.tiles, size, floor, lowest, stages)
            if heatmap:
                heatmap.put(part, seen)
        return new

    try:
        with Heap() as heap:
            for batch in stages.waiting("waiting for pixels", batches):
                found += [_to_slide(candidate, downsample) for candidate in look(batch)]
                done += len(batch.tiles)
                progress.upto(done)
                if memory:
                    memory.keep(done, found)
                heap.looked_at(batch.window_px)
    finally:
        # What comes here by Ctrl-C or an error goes on from this window.
        if memory:
            memory.keep(done, found, now=True)
    return merge(_inside(found, area), mpp)


def _filled(tiling: Tiling, bundle: Bundle) -> Tiling:
    core = _CORE_CPU if network_device(bundle).type == "cpu" else _CORE
    return Tiling(
        tiling.core if tiling.core is not None else core,
        tiling.halo if tiling.halo is not None else bundle.card.halo,
        tiling.together,
    )


def _alignment(slide: Slide, downsample: float) -> int:
    """Cores start where the file's tiles do, where that is possible: fewer are decoded twice."""
    if downsample != 1 or not isinstance(slide, FileSlide):
        return SIZE_MULTIPLE
    return int(np.lcm(int(np.lcm(slide.facts.tile_width, slide.facts.tile_height)), SIZE_MULTIPLE))


class _Shares:
    """Tells the share of all core pixels that is done."""

    def __init__(self, tiles: Sequence[Tile], advance: Callable[[float], None]) -> None:
        sizes = np.array([0, *(tile.width * tile.height for tile in tiles)], dtype=np.float64)
        self._shares = np.cumsum(sizes) / max(1.0, sizes.sum())
        self._advance, self._told = advance, 0

    def upto(self, done: int) -> None:
        """Tell what is new since the last call."""
        if done > self._told:
            self._advance(float(self._shares[done] - self._shares[self._told]))
            self._told = done


def plan_tiles(
    size: tuple[float, float],
    tiling: Tiling,
    area: BaseGeometry | None,
    downsample: float,
    working_mpp: float,
    cell_px: float | None,
    align: int = SIZE_MULTIPLE,
) -> list[Tile]:
    """The tiles that an area needs. ``size``: width, height of the image in working pixels."""
    assert tiling.core is not None
    assert tiling.halo is not None
    # A figure whose centre lies in the area can have its peak a little outside.
    reach = REACH / working_mpp
    if cell_px:
        tiles = cell_tiles(*size, cell_px / downsample, CELL_HALO)
        return tiles if area is None else touching(tiles, area, downsample, reach)
    whole = (int(np.ceil(size[0])), int(np.ceil(size[1])))
    return cut_image(whole, Cutting(tiling.core, tiling.halo, align), area, downsample, reach)


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
            (index, y - tile.y + tile.top, x - tile.x + tile.left)
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
        return Tile(x - half, y - half, side, side, 0, 0, side, side)
    side = round(cell)
    window = round_up(side + 2 * CELL_HALO)
    left, top = x // cell * cell, y // cell * cell
    return Tile(left, top, side, side, CELL_HALO, CELL_HALO, window, window, mirrored=True)


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
