"""Normal or atypical, for bare crops that are centred on a mitotic figure.

A crop is treated as a mosaic of one cell: what lies past its border is its own mirror image.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from midog_qupath.dataset.areas import working_downsample
from midog_qupath.errors import ModelError, SlideError
from midog_qupath.inference.crop_files import SMALLEST_PX, read_crops
from midog_qupath.inference.detect import CELL_HALO, POSITION_WINDOW, Tiling
from midog_qupath.inference.device import network_device
from midog_qupath.inference.forward import atypical_given_mitosis, classify
from midog_qupath.inference.grid import round_up
from midog_qupath.models.bundle import Bundle
from midog_qupath.progress import SILENT, Progress
from midog_qupath.slides.base import Level, RgbArray
from midog_qupath.slides.resample import read_resampled
from midog_qupath.units import MicronsPerPixel

#: Mirrored pixels for the reach of the filters, in the coarser of source and window pixels.
_FILTER = 8
#: Grey levels: what varies less over a crop, or between its colours, shows nothing. Of 3,212 figures and
#: look-alikes in 64 px the faintest varies by 16, its colours by 11.
_NOTHING = 1.5


@dataclass(frozen=True)
class CropVerdict:
    """What the model says of one crop. ``atypical_probability``: 0..1, given that it is a mitosis."""

    file: str
    atypical_probability: float
    atypical: bool

    def as_json(self) -> dict[str, Any]:
        """One entry of the result of ``classify --json``."""
        return {
            "file": self.file,
            "class": "atypical" if self.atypical else "normal",
            "atypical_probability": self.atypical_probability,
        }


@dataclass(frozen=True)
class CropReport:
    """Verdicts in the order given, and why there is none for the rest, by name.

    ``blank``, ``colourless``: crops with a verdict that cannot mean anything, by name. ``threshold``: the
    probability (0..1) from which a figure is atypical.
    """

    threshold: float
    verdicts: list[CropVerdict] = field(default_factory=list)
    failed: dict[str, SlideError] = field(default_factory=dict)
    blank: list[str] = field(default_factory=list)
    colourless: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CropWindow:
    """What the network sees of a crop: (side, side, 3) uint8, and where in it the figure's centre lies."""

    pixels: RgbArray
    x: float
    y: float


#: Name of a crop, and its window or why there is none.
_NamedWindow: TypeAlias = tuple[str, CropWindow | SlideError]


def classify_files(
    bundle: Bundle, files: Sequence[Path], mpp: MicronsPerPixel, progress: Progress = SILENT
) -> CropReport:
    """Normal or atypical for every crop in ``files``, by the model's own atypical threshold.

    Parameters
    ----------
    bundle
        The model; it runs on the device where its weights lie.
    files
        Images with one crop each, or one a page.
    mpp
        Microns per pixel of all crops.

    Raises
    ------
    ModelError
        If the model was not taught normal and atypical figures.
    """
    if not bundle.card.has_atypical:
        raise ModelError(
            f"The model {bundle.card.name} was not taught normal and atypical figures.",
            "Give another by --model, or train one on annotations of both classes.",
        )
    report = CropReport(bundle.card.atypical_threshold)
    together = Tiling().batch_pixels(network_device(bundle)) // POSITION_WINDOW**2
    with progress.task("Classifying", len(files), "files") as advance:
        windows = _windows(files, working_downsample(mpp), advance)
        while batch := list(islice(windows, together)):
            report.failed.update((name, w) for name, w in batch if isinstance(w, SlideError))
            good = [(name, w) for name, w in batch if isinstance(w, CropWindow)]
            report.blank.extend(name for name, w in good if _contrast(w.pixels) < _NOTHING)
            report.colourless.extend(name for name, w in good if _colour(w.pixels) < _NOTHING)
            probabilities = classify_windows(bundle, [window for _, window in good])
            report.verdicts.extend(
                CropVerdict(name, p, p >= report.threshold)
                for (name, _), p in zip(good, probabilities, strict=True)
            )
    return report


def _contrast(pixels: RgbArray) -> float:
    """Standard deviation of a (H, W, 3) crop, mean of its channels, in grey levels."""
    return float(cv2.meanStdDev(pixels)[1].mean())


def _colour(pixels: RgbArray) -> float:
    """Standard deviation between the three channels of a pixel, mean of a (H, W, 3) crop, in grey levels."""
    # In whole numbers: an eighth of the time of numpy's own over so short an axis.
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    squares = 3 * (red * red + green * green + blue * blue) - (red + green + blue) ** 2
    return float(np.sqrt(squares).mean() / 3)


def _windows(
    files: Iterable[Path], downsample: float, advance: Callable[[float], None]
) -> Iterator[_NamedWindow]:
    for file in files:
        for name, crop in read_crops(file):
            yield name, crop if isinstance(crop, SlideError) else _window_or_error(name, crop, downsample)
        advance(1)


def _window_or_error(name: str, crop: RgbArray, downsample: float) -> CropWindow | SlideError:
    if min(crop.shape[:2]) / downsample >= SMALLEST_PX:
        return crop_window(crop, downsample)
    return SlideError(
        f"{name} shows too little: {min(crop.shape[:2]) / downsample:.3g} px at the model's resolution.",
        "Give larger crops, or the right --mpp.",
    )


def crop_window(crop: RgbArray, downsample: float) -> CropWindow:
    """The network's window around the centre of a (H, W, 3) crop.

    As wide as that of a mosaic's cell, at most the one around a position in a slide: small crops are
    mirrored at their border, large ones cut. ``downsample``: pixels of the crop per pixel of the window.
    """
    height, width = crop.shape[:2]
    side = min(POSITION_WINDOW, round_up(round(max(height, width) / downsample) + 2 * CELL_HALO))
    # On whole pixels of the crop, so that one at the working resolution is not interpolated.
    left, top = (math.floor((length - side * downsample) / 2) for length in (width, height))
    border = max(0, -left, -top) + math.ceil(_FILTER * max(1.0, downsample))
    mirrored = np.pad(crop, ((border, border), (border, border), (0, 0)), mode="reflect")

    def level(index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        return mirrored[y : y + height, x : x + width]

    levels = [Level(mirrored.shape[1], mirrored.shape[0], 1.0)]
    pixels = read_resampled(levels, level, left + border, top + border, side, side, downsample)
    return CropWindow(pixels, (width / 2 - left) / downsample, (height / 2 - top) / downsample)


def classify_windows(bundle: Bundle, windows: Sequence[CropWindow]) -> list[float]:
    """P(atypical | mitosis) at the centre that each window names; windows of one size go together."""
    by_side: dict[int, list[int]] = defaultdict(list)
    for index, window in enumerate(windows):
        by_side[len(window.pixels)].append(index)
    classes = np.empty((len(windows), 3))
    for indices in by_side.values():
        classes[indices] = _class_probabilities(bundle, [windows[index] for index in indices])
    return [p for p in atypical_given_mitosis(bundle, classes) if p is not None]


def _class_probabilities(bundle: Bundle, windows: Sequence[CropWindow]) -> NDArray[np.float64]:
    positions = np.array([(index, w.y, w.x) for index, w in enumerate(windows)], dtype=np.float64)
    with torch.inference_mode():
        images = torch.from_numpy(np.stack([w.pixels for w in windows])).to(network_device(bundle))
        return classify(bundle, bundle.network(bundle.normalise(images)).features, positions)
