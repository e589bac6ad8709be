"""The model bundle: one safetensors file that holds the weights and, as JSON, all that explains them.

Loading never unpickles.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
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
from midog_qupath.models.calibration import Calibration, log_odds, sigmoid
from midog_qupath.models.student import NetworkConfig, Student
from midog_qupath.units import WORKING_MPP

FILE_NAME = "model.safetensors"
_KEY = "midog_qupath"


class OperatingPoint(BaseModel):
    """Thresholds, calibrations, and where they come from.

    ``threshold``, ``atypical_threshold``: on calibrated probabilities. ``verifier_weight``: share of the
    classifier in the mitosis probability (0 = segmentation alone). ``chosen_on``: in words, the split and
    number of mitoses that chose the thresholds. ``statistics_share``: share of an image's own statistics in
    batch normalisation; ``nuclei_quantile``: from which quantile of the nuclei's log-odds those of
    candidates count; 0 switches either off (:mod:`midog_qupath.inference.adapt`). ``nuclei_level``: the
    lowest log-odds of nuclei around the mitoses that chose the threshold; where nuclei look more normal than
    there, candidates count from half way. ``mitosis_calibration``, ``atypical_calibration``: of the mitosis
    probability and of P(atypical | mitosis); None: as the network says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.5, ge=0, le=1)
    atypical_threshold: float = Field(default=0.5, ge=0, le=1)
    verifier_weight: float = Field(default=0.0, ge=0, le=1)
    statistics_share: float = Field(default=0.0, ge=0, le=1)
    nuclei_quantile: float = Field(default=0.0, ge=0, lt=1)
    nuclei_level: float = Field(default=0.0, ge=0)
    chosen_on: str = "default: no left-out cases to choose on"
    mitosis_calibration: Calibration | None = None
    atypical_calibration: Calibration | None = None

    @property
    def adapts(self) -> bool:
        """Whether the model gets used to an image before it is searched."""
        return self.statistics_share > 0 or self.nuclei_quantile > 0

    def uncalibrated(self) -> OperatingPoint:
        """The same decisions on the probabilities that the network says."""
        return self.model_copy(
            update={
                "threshold": _invert(self.mitosis_calibration, self.threshold),
                "atypical_threshold": _invert(self.atypical_calibration, self.atypical_threshold),
                "mitosis_calibration": None,
                "atypical_calibration": None,
            }
        )


def _invert(calibration: Calibration | None, probability: float) -> float:
    if calibration is None:
        return probability
    return float(calibration.invert(np.array([probability]))[0])


def _shift(probability: float, by: float) -> float:
    return float(sigmoid(log_odds(np.array([probability])) + by)[0]) if by else probability


class BundleCard(BaseModel):
    """Everything about a model but its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    name: str
    created: str
    network: NetworkConfig
    mpp: float = WORKING_MPP
    #: Working pixels around a window's core that the network must see for its answer to be the same as for
    #: the whole image.
    halo: int = Field(default=128, ge=0, multiple_of=32)
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
    #: What it was trained on: "cpu", or the name of the accelerator.
    device: str = ""
    notes: tuple[str, ...] = ()
    #: Terms of use in one line, where they are not those of the user's own data.
    licence: str = ""

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
    """A loaded model: card, network in evaluation mode, and the sha256 of its file.

    ``nuclei_log_odds``: from which log-odds those of candidates count, 0 for a model that is used to no
    image.
    """

    card: BundleCard
    network: Student
    sha256: str
    nuclei_log_odds: float = 0.0

    def normalise(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float as the network expects it."""
        return normalise(images, self.card.mean, self.card.std)

    def score(
        self, peaks: NDArray[np.float64], class_probabilities: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Calibrated mitosis probability (N,) of segmentation peaks (N,), classifier probabilities (N, 3)."""
        point = self.card.operating_point
        mixed = combine(peaks, class_probabilities, point.verifier_weight)
        if self.nuclei_log_odds:
            mixed = sigmoid(log_odds(mixed) - self.nuclei_log_odds)
        return point.mitosis_calibration.apply(mixed) if point.mitosis_calibration else mixed

    def calibrated_mitosis(self, probability: float) -> float:
        """What :meth:`score` makes of this probability of the network and its verifier."""
        calibration = self.card.operating_point.mitosis_calibration
        shifted = _shift(probability, -self.nuclei_log_odds)
        return float(calibration.apply(np.array([shifted]))[0]) if calibration else shifted

    def uncalibrated_mitosis(self, probability: float) -> float:
        """The mitosis probability of the network and its verifier that :meth:`score` turns into this one."""
        shifted = _invert(self.card.operating_point.mitosis_calibration, probability)
        return _shift(shifted, self.nuclei_log_odds)

    def calibrate_atypical(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated (N,) of the network's (N,) P(atypical | mitosis)."""
        calibration = self.card.operating_point.atypical_calibration
        return calibration.apply(probabilities) if calibration else probabilities

    def uncalibrated(self) -> Bundle:
        """The same model and decisions, its probabilities as the network says them.

        Calibrations and thresholds for another bundle are chosen on these.
        """
        point = self.card.operating_point.uncalibrated()
        return replace(self, card=self.card.model_copy(update={"operating_point": point}))


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
    return sigmoid((1.0 - weight) * log_odds(peaks) + weight * log_odds(verified))


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32, channels last in memory, on the tensor's device."""
    scale = torch.tensor(std, device=images.device) * 255.0
    shift = torch.tensor(mean, device=images.device) * 255.0
    return ((images.float() - shift) / scale).permute(0, 3, 1, 2)


@torch.no_grad()
def round_weights(network: Student) -> None:
    """Round weights to the half precision they are stored in: what is measured is what is saved."""
    for tensor in network.state_dict().values():
        if tensor.dtype.is_floating_point:
            tensor.copy_(tensor.half())


def save_bundle(path: Path, card: BundleCard, network: Student) -> None:
    """Write a bundle, weights in half precision, whole or not at all."""
    weights = {name: _stored(tensor) for name, tensor in network.state_dict().items()}
    files.write_bytes(path, save(weights, metadata={_KEY: card.model_dump_json()}))


def _stored(tensor: Tensor) -> Tensor:
    kept = tensor.detach().cpu()
    return (kept.half() if kept.dtype.is_floating_point else kept).contiguous()


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
        raise ModelError(
            f"{file} is no model, damaged, or of another version.",
            "Give the folder or file that `midog-qupath train` made, or train it anew.",
        ) from error
    return card, tensors
