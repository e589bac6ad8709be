"""A model of known behaviour and a slide in memory, for tests of everything around the network.

The model answers dark red: a pixel's mitosis logit is (200 - red of a 3 x 3 mean at stride 2) / 10. Its
receptive field reaches 3 pixels. Green tells atypical: green 0 is certainly atypical, green 255 normal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace, TracebackType

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from midog_qupath.cli.main import main
from midog_qupath.models.bundle import Bundle, BundleCard, OperatingPoint, save_bundle
from midog_qupath.models.student import NetworkConfig, Student, StudentOutput
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.model import PathObject, Project
from midog_qupath.project.stores.native import NativeStore

STRIDE = 2


class DarkRed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        # What is asked of a classifier: the strides of its maps and the windows that it looks at.
        self.classifier = SimpleNamespace(strides=(STRIDE,), windows=(4,))

    def forward(self, images: torch.Tensor) -> StudentOutput:
        small = functional.avg_pool2d(images, STRIDE)
        red = functional.avg_pool2d(small[:, :1], 3, stride=1, padding=1, count_include_pad=False)
        logit = ((200 - red) / 10).round(decimals=3)
        logits = torch.cat([torch.zeros_like(logit), logit * 0 - 20, logit * 0 - 20, logit], dim=1)
        return StudentOutput(logits, (small,))

    def classify(self, features: tuple[torch.Tensor, ...], positions: torch.Tensor) -> torch.Tensor:
        index, y, x = (positions / torch.tensor([1, STRIDE, STRIDE])).long().unbind(dim=1)
        green = features[0][index, 1, y, x]
        atypical = (128 - green) / 10
        return torch.stack([torch.full_like(atypical, -20), -atypical, atypical], dim=1)


def standin_bundle(threshold: float = 0.5, **card: object) -> Bundle:
    """The model above; pixels reach it as they are (0..255)."""
    described = BundleCard(
        name="stand-in",
        created="2025-01-01T00:00:00Z",
        network=NetworkConfig(reduce=1, decoder_channels=(96, 64, 48)),
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
        operating_point=OperatingPoint(threshold=threshold),
        **card,
    )
    return Bundle(described, DarkRed().eval(), "0" * 64)


class ArraySlide:
    """An image in memory, (height, width, 3) uint8."""

    file_mpp = None

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]
        self.largest_read = 0

    def __enter__(self) -> ArraySlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        return None

    def read(self, x: float, y: float, width: int, height: int, downsample: float) -> np.ndarray:
        self.largest_read = max(self.largest_read, width * height)
        shift = (downsample - 1) / 2
        matrix = np.array([[downsample, 0, x + shift], [0, downsample, y + shift]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.pixels, matrix, (width, height), flags=flags, borderValue=(255, 255, 255))


def painted(width: int, height: int, figures: list[tuple[float, float]], **options: int) -> np.ndarray:
    """White pixels with a dark-red-less disc (radius 12 px = 3 um at 0.25 um/px) at each x, y."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    for x, y in figures:
        disc(pixels, x, y, **options)
    return pixels


def disc(pixels: np.ndarray, x: float, y: float, red: int = 60, green: int = 200, radius: int = 12) -> None:
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    distance = np.hypot(columns + 0.5 - x, rows + 0.5 - y)
    inside = distance < radius
    # Lightest at the rim, so that there is one darkest point.
    shade = red + max(0, 150 - red) * distance / radius
    pixels[..., 0] = np.where(inside, np.minimum(pixels[..., 0], shade), pixels[..., 0])
    pixels[..., 1] = np.where(inside, green, pixels[..., 1])


def painted_project(
    folder: Path,
    images: Mapping[str, np.ndarray],
    labels: Mapping[str, Iterable[PathObject]] | None = None,
    metadata: Mapping[str, Mapping[str, str]] | None = None,
    mpp: float | None = 0.25,
) -> Project:
    """A real project of the given pictures with what people drew in them."""
    new = []
    for name, pixels in images.items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels[..., ::-1])
        new.append(NewImage(path, mpp, (metadata or {}).get(name, {})))
    project = create_project(folder, new)
    store = NativeStore(project)
    for entry in project.images:
        store.create(entry, list((labels or {}).get(entry.name, ())))
    return project


class Command:
    """Runs a command as a user does: exit code, standard output, standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["midog-qupath", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err


def save_untrained(path: Path, **card: object) -> Path:
    """A real model file, small and of random weights, that calls a few places mitoses."""
    torch.manual_seed(0)
    config = NetworkConfig(encoder="tu-mobilenetv3_small_050", decoder_channels=(16, 16, 16))
    described = BundleCard(
        name="untrained",
        created="2025-01-01T00:00:00Z",
        network=config,
        operating_point=OperatingPoint(threshold=0.2),
        **card,
    )
    save_bundle(path, described, Student(config))
    return path
