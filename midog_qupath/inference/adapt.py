"""Getting used to an image before it is searched.

A scanner or stain that was not trained on shifts what the layers of the network see, and makes ordinary
nuclei look more like mitoses to it. Both are measured on a sample of the image and put right, without any
label:

- the statistics of batch normalisation are mixed with the learnt ones (AdaBN, Li et al. 2016; the mixture:
  Schneider et al., NeurIPS 2020);
- a candidate's log-odds count from those of the most mitosis-like nuclei (:func:`counted_from`). Images of
  one domain share that measure: one field holds too few nuclei, and its own mitoses would be among them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from torch import Tensor, nn

from midog_qupath.dataset.areas import working_downsample
from midog_qupath.inference.detect import CELL_HALO
from midog_qupath.inference.device import network_device
from midog_qupath.inference.grid import Tile, cell_tiles, grid_tiles, touching
from midog_qupath.inference.outline import REACH
from midog_qupath.inference.read import read_batches
from midog_qupath.models.bundle import Bundle
from midog_qupath.models.student import BACKGROUND, MITOSIS, Student
from midog_qupath.slides.base import Slide
from midog_qupath.slides.tissue import find_tissue
from midog_qupath.units import MicronsPerPixel

#: Side of a sample's windows in working pixels, and how many of their pixels are looked at in all.
_WINDOW, _SAMPLE_PX = 512, 24 * 512**2
#: Window pixels that share one normalisation while statistics are taken; fixed, so that no device matters.
_TOGETHER_PX = 6 * 512**2
#: Log-odds are counted in bins of this width up to this far from 0.
_BIN, _LIMIT = 0.25, 20.0
#: The highest quantile of nuclei that is read off.
_LAST_READ = 0.95
#: The measure that images of unseen sources had in development, and the µm² of nuclei that it counts for.
_USUAL, _USUAL_UM2 = 6.0, 5000.0


@dataclass(frozen=True)
class Look:
    """What a sample of an image shows.

    ``statistics``: mean and variance (channels,) of what each batch normalisation saw. ``nuclei``: µm² of
    nuclei by the log-odds of a mitosis that the network gives them, in bins of 0.25 from -20 to 20.
    """

    statistics: tuple[tuple[Tensor, Tensor], ...]
    nuclei: NDArray[np.float64]


def look_at(
    bundle: Bundle,
    slide: Slide,
    mpp: float,
    cell_px: float | None = None,
    tissue: BaseGeometry | None = None,
) -> Look:
    """Look at windows spread over the tissue of an image: about six megapixels, however large it is.

    ``mpp``: microns of a slide pixel; ``cell_px``: side in slide pixels of a mosaic's cells; ``tissue``:
    in slide pixels, where it is known already.
    """
    point = bundle.card.operating_point
    tiles = _sample(bundle, slide, mpp, cell_px, tissue) if point.adapts else []
    statistics = _statistics(bundle, slide, mpp, tiles) if point.statistics_share else ()
    used_to = _mixed(bundle, statistics)
    nuclei = np.zeros(len(_edges()) - 1)
    if point.nuclei_quantile:
        for images in _images(used_to, slide, mpp, tiles):
            nuclei += _nuclei(used_to, images)
    return Look(statistics, nuclei)


@dataclass(frozen=True)
class Adapter:
    """A model, used to each of several images. ``looks`` and ``domains`` by any name of an image."""

    bundle: Bundle
    looks: Mapping[str, Look]
    domains: Mapping[str, str]

    def bundle_for(self, image: str) -> Bundle:
        """The model for one image."""
        look = self.looks[image]
        ours = [other for name, other in self.looks.items() if self.domains[name] == self.domains[image]]
        used_to = _mixed(self.bundle, look.statistics)
        point = self.bundle.card.operating_point
        if not point.nuclei_quantile:
            return used_to
        measured = nuclei_log_odds([other.nuclei for other in ours], point.nuclei_quantile)
        return replace(used_to, nuclei_log_odds=counted_from(measured, point.nuclei_level))


def nuclei_log_odds(counts: Sequence[NDArray[np.float64]], quantile: float) -> float:
    """Quantile of the log-odds of a mitosis over the nuclei of several images (their :class:`Look`).

    Beyond 0.95 it is not read off but drawn out from the quantiles 0.9 and 0.95 as if the tail were
    exponential: in a hot spot the mitoses themselves are the last hundredths. Few nuclei move the result
    little away from what is usual. Never below 0: that nuclei look clearly normal makes no mitosis likelier.
    """
    total = np.sum(counts, axis=0)
    area = float(total.sum())
    if area == 0:
        return _USUAL
    shares = np.concatenate([[0], np.cumsum(total) / area])
    read = min(quantile, _LAST_READ)
    measured, below = (float(np.interp(q, shares, _edges())) for q in (read, 2 * read - 1))
    measured += (measured - below) * float(np.log2((1 - read) / (1 - quantile)))
    return max(0.0, (area * measured + _USUAL_UM2 * _USUAL) / (area + _USUAL_UM2))


def counted_from(measured: float, chosen_at: float) -> float:
    """The log-odds that candidates count from, where nuclei have ``measured`` ones in an image.

    ``chosen_at``: those of the nuclei where the threshold was chosen. An unknown stain lifts nuclei and
    mitoses alike, and the bar goes with them. But where the model knows a source its nuclei alone look more
    normal; the best cut between them and mitoses then comes down half as far.
    """
    return measured + max(0.0, chosen_at - measured) / 2


def _edges() -> NDArray[np.float64]:
    return np.arange(-_LIMIT, _LIMIT + _BIN, _BIN)


def _sample(
    bundle: Bundle, slide: Slide, mpp: float, cell_px: float | None, tissue: BaseGeometry | None
) -> list[Tile]:
    """Windows evenly spread over the tissue, at most as many as the sample may hold."""
    downsample = working_downsample(MicronsPerPixel(mpp))
    width, height = slide.width / downsample, slide.height / downsample
    if tissue is None:
        tissue = find_tissue(slide, MicronsPerPixel(mpp))
    if cell_px:
        every = cell_tiles(width, height, cell_px / downsample, CELL_HALO)
    else:
        every = grid_tiles(math.ceil(width), math.ceil(height), _WINDOW, 0)
    tiles = touching(every, tissue, downsample, REACH / bundle.card.mpp)
    most = max(1, _SAMPLE_PX // (tiles[0].window_width * tiles[0].window_height)) if tiles else 0
    if len(tiles) <= most:
        return tiles
    return [tiles[round(place)] for place in np.linspace(0, len(tiles) - 1, most)]


def _images(bundle: Bundle, slide: Slide, mpp: float, tiles: Sequence[Tile]) -> Iterator[Tensor]:
    downsample, device = working_downsample(MicronsPerPixel(mpp)), network_device(bundle)
    for batch in read_batches(slide, tiles, downsample, _TOGETHER_PX):
        yield bundle.normalise(torch.from_numpy(batch.pixels).to(device))


def _statistics(
    bundle: Bundle, slide: Slide, mpp: float, tiles: Sequence[Tile]
) -> tuple[tuple[Tensor, Tensor], ...]:
    if not tiles:
        return ()
    network = copy.deepcopy(bundle.network)
    with _learning_statistics(network), torch.inference_mode():
        for images in _images(bundle, slide, mpp, tiles):
            network(images)
    return tuple((_own(m.running_mean), _own(m.running_var)) for m in _normalisations(network))


@contextmanager
def _learning_statistics(network: Student) -> Iterator[None]:
    """Batch normalisation takes the plain mean over the batches it sees; nothing else trains."""
    for module in _normalisations(network):
        module.reset_running_stats()
        module.momentum = None
        module.train()
    yield
    network.eval()


def _mixed(bundle: Bundle, statistics: Sequence[tuple[Tensor, Tensor]]) -> Bundle:
    """The bundle with the statistics of an image mixed in."""
    if not statistics:
        return bundle
    network, share = copy.deepcopy(bundle.network), bundle.card.operating_point.statistics_share
    for module, (mean, variance) in zip(_normalisations(network), statistics, strict=True):
        _own(module.running_mean).lerp_(mean, share)
        _own(module.running_var).lerp_(variance, share)
    return replace(bundle, network=network)


def _normalisations(network: Student) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def _own(statistic: Tensor | None) -> Tensor:
    assert statistic is not None  # none of our networks normalises without keeping statistics
    return statistic


@torch.inference_mode()
def _nuclei(bundle: Bundle, images: Tensor) -> NDArray[np.float64]:
    """µm² of what is not background, by log-odds of a mitosis."""
    logits = bundle.network(images).logits.float()
    others = torch.cat([logits[:, :MITOSIS], logits[:, MITOSIS + 1 :]], dim=1)
    odds = logits[:, MITOSIS] - torch.logsumexp(others, dim=1)
    foreground = logits.softmax(dim=1)[:, BACKGROUND] < 0.5
    values = odds[foreground].clamp(-_LIMIT, _LIMIT - _BIN / 2).cpu().double().numpy()
    counts, _ = np.histogram(values, _edges())
    return np.asarray(counts * (bundle.card.stride * bundle.card.mpp) ** 2, dtype=np.float64)
