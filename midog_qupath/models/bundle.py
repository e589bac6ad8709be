"""The model bundle: one safetensors file that holds the weights and, as JSON, all that explains them.

Loading never unpickles.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from midog_qupath import files
from midog_qupath.errors import ModelError
from midog_qupath.models.student import NetworkConfig, Student
from midog_qupath.units import WORKING_MPP

FILE_NAME = "model.safetensors"
_KEY = "midog_qupath"
_EPSILON = 1e-6


class OperatingPoint(BaseModel):
    """Thresholds and where they come from.

    ``verifier_weight``: share of the classifier in the mitosis probability (0 = segmentation alone).
    ``chosen_on``: in words, the split and number of mitoses that chose the thresholds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.5, ge=0, le=1)
    atypical_threshold: float = Field(default=0.5, ge=0, le=1)
    verifier_weight: float = Field(default=0.0, ge=0, le=1)
    chosen_on: str = "default: no left-out cases to choose on"


class BundleCard(BaseModel):
    """Everything about a model but its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    name: str
    created: str
    network: NetworkConfig
    mpp: float = WORKING_MPP
    classes: tuple[str, ...] = ("background", "normal nucleus", "hard negative", "mitotic figure")
    mean: tuple[float, float, float] = (0.72, 0.56, 0.70)
    std: tuple[float, float, float] = (0.20, 0.22, 0.17)
    has_atypical: bool = True
    operating_point: OperatingPoint = OperatingPoint()
    trained_cases: tuple[str, ...] = ()
    tuned_cases: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    dataset_sha256: tuple[str, ...] = ()
    recipe: dict[str, Any] = Field(default_factory=dict)
    software: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def stride(self) -> int:
        """Working pixels per output pixel."""
        return self.network.stride

    @property
    def threshold(self) -> float:
        """Mitosis probability from which a candidate is a detection."""
        return self.operating_point.threshold

    @property
    def atypical_threshold(self) -> float:
        """Atypical probability from which a mitotic figure is called atypical."""
        return self.operating_point.atypical_threshold


@dataclass(frozen=True)
class Bundle:
    """A loaded model: card, network in evaluation mode, and the sha256 of its file."""

    card: BundleCard
    network: Student
    sha256: str

    def normalise(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float as the network expects it."""
        return normalise(images, self.card.mean, self.card.std)

    def score(
        self, peaks: NDArray[np.float64], class_probabilities: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Mitosis probability (N,) from segmentation peaks (N,) and classifier probabilities (N, 3)."""
        return combine(peaks, class_probabilities, self.card.operating_point.verifier_weight)


def combine(
    peaks: NDArray[np.float64], class_probabilities: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """Mix two opinions as log-odds: sigmoid((1 - w) * logit(segmentation) + w * logit(classifier)).

    Parameters
    ----------
    peaks
        (N,) highest mitosis probability of the segmentation at each candidate.
    class_probabilities
        (N, 3) not a mitosis, normal, atypical.
    weight
        Share of the classifier, 0..1.
    """
    verified = 1.0 - class_probabilities[:, 0]
    odds = (1.0 - weight) * _logit(peaks) + weight * _logit(verified)
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), dtype=np.float64)


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32, channels last in memory, on the tensor's device."""
    scale = torch.tensor(std, device=images.device) * 255.0
    shift = torch.tensor(mean, device=images.device) * 255.0
    return ((images.float() - shift) / scale).permute(0, 3, 1, 2)


def save_bundle(path: Path, card: BundleCard, network: Student) -> None:
    """Write a bundle, whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    files.write_bytes(path, save(weights, metadata={_KEY: card.model_dump_json()}))


def load_bundle(path: Path, device: str = "cpu") -> Bundle:
    """Read a bundle (the file, or the folder that holds ``model.safetensors``).

    Raises
    ------
    ModelError
        If the file is missing, damaged, or not a bundle of this tool.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise ModelError(
            f"There is no model at {path}.", "Give the folder or file that `midog-qupath train` made."
        )
    card, weights = _read(file)
    network = Student(card.network.model_copy(update={"encoder_weights": None}))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"The weights in {file} do not fit its own description.", "Train it anew."
        ) from error
    network.eval().to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Bundle(card, network, files.sha256(file))


def read_card(path: Path) -> BundleCard:
    """The card of a bundle, without its weights."""
    return _read(path / FILE_NAME if path.is_dir() else path, weights=False)[0]


def _read(file: Path, weights: bool = True) -> tuple[BundleCard, dict[str, Tensor]]:
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(_KEY)
            if text is None:
                raise ModelError(f"{file} is not a model of midog-qupath.", "Give one that it trained.")
            card = BundleCard.model_validate(json.loads(text))
            tensors = {key: opened.get_tensor(key) for key in opened.keys()} if weights else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, ValidationError) as error:
        raise ModelError(f"The model {file} is damaged or of another version.", "Train it anew.") from error
    return card, tensors
