"""The floor of the atypical experiment: the recipe's encoder on 64 px crops around the mitosis, nothing else.

Same steps, batch size, optimiser, moving average, and augmentation functions as the student.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from midog_qupath.learning.augment import Placement, place, recolour, warp
from midog_qupath.learning.chance import Rng
from midog_qupath.learning.ground import AreaGround, Ground, Spot
from midog_qupath.learning.labels import Label
from midog_qupath.learning.phase import Phase, Trained, run_phase
from midog_qupath.learning.recipe import Recipe
from midog_qupath.learning.runlog import RunLog
from midog_qupath.learning.training import frozen
from midog_qupath.learning.workfolder import WorkFolder
from midog_qupath.models.bundle import BundleCard, normalise
from midog_qupath.progress import Progress
from training.experiments.scoring import Opinion

CROP_PX = 64
#: The mitosis is known to lie in the crop's centre: it is shifted less than in a training tile.
_SHIFT_PX = 4.0
_BATCH = 64
_COLOURS = BundleCard.model_fields["mean"].default, BundleCard.model_fields["std"].default


class BareCropNetwork(nn.Module):
    """Encoder, global mean, one logit: atypical."""

    def __init__(self, encoder: str) -> None:
        super().__init__()
        self.encoder = get_encoder(encoder, in_channels=3, depth=5, weights=None)
        self.out = nn.Sequential(nn.Dropout(0.25), nn.Linear(self.encoder.out_channels[-1], 1))

    def forward(self, crops: Tensor) -> Tensor:
        """Logits (N,) of normalised crops (N, 3, 64, 64)."""
        logits: Tensor = self.out(self.encoder(crops)[-1].mean(dim=(2, 3)))
        return logits[:, 0]


@dataclass(frozen=True)
class _Objective:
    network: BareCropNetwork
    ground: Ground
    kinds: tuple[tuple[Spot, ...], tuple[Spot, ...]]
    recipe: Recipe
    device: torch.device

    def __call__(self, step: int, progress: float) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.recipe.seed * 1000, step))
        # Both kinds equally often: balanced accuracy is what is measured.
        targets = [int(rng.random() < 0.5) for _ in range(self.recipe.sampling.batch)]
        crops = np.stack([self._crop(rng, self.kinds[target]) for target in targets])
        logits = self.network(_as_input(crops, self.device))
        truth = torch.tensor(targets, dtype=torch.float32, device=self.device)
        return {"total": nn.functional.binary_cross_entropy_with_logits(logits, truth)}

    def _crop(self, rng: Rng, spots: Sequence[Spot]) -> NDArray[np.uint8]:
        spot = spots[int(rng.integers(len(spots)))]
        augmentation = self.recipe.augmentation.model_copy(update={"shift_px": _SHIFT_PX})
        placement = place(rng, (spot.x, spot.y), CROP_PX, augmentation)
        return recolour(rng, _cut(self.ground, spot, placement), augmentation)


def train_bare_crop(
    ground: Ground, recipe: Recipe, folder: WorkFolder, device: str, progress: Progress
) -> BareCropNetwork:
    """Train on the typed mitoses of ``ground`` for the recipe's steps; continues from a checkpoint.

    Returns the moving average of the weights. ``ground`` must hold both kinds.
    """
    torch.manual_seed(recipe.seed)
    network = BareCropNetwork(recipe.network.encoder).to(device)
    average = frozen(copy.deepcopy(network))
    assert isinstance(average, BareCropNetwork)
    kinds = _kinds(ground)
    # The masks and the teacher are the student's: here all steps go into the one network.
    steps = recipe.student.steps
    if recipe.teacher.masks == "teacher":
        steps += recipe.teacher.steps * recipe.teacher.rounds
    phase = Phase(
        name="bare-crop",
        steps=steps,
        seconds=None,
        optimiser=recipe.optimiser,
        seed=recipe.seed,
        checkpoint=folder.checkpoint("bare-crop"),
        checkpoint_seconds=recipe.checkpoint_seconds,
    )
    objective = _Objective(network.train(), ground, kinds, recipe, torch.device(device))
    run_phase(phase, Trained(network=network, average=average), objective, RunLog(folder.log), progress)
    return average


def bare_crop_opinion(network: BareCropNetwork) -> Opinion:
    """The network's atypical probability of labels, each from its 64 px crop."""
    device = next(network.parameters()).device

    @torch.inference_mode()
    def opinion(area: AreaGround, labels: Sequence[Label]) -> Sequence[float]:
        crops = [_plain_crop(area, label) for label in labels]
        parts = [np.stack(crops[i : i + _BATCH]) for i in range(0, len(crops), _BATCH)]
        return [float(p) for part in parts for p in torch.sigmoid(network(_as_input(part, device))).tolist()]

    return opinion


def _kinds(ground: Ground) -> tuple[tuple[Spot, ...], tuple[Spot, ...]]:
    """Normal and atypical mitoses, by the majority of votes."""
    normal, atypical = (
        tuple(spot for spot in ground.mitoses.spots if spot.kind == kind) for kind in ("normal", "atypical")
    )
    return normal, atypical


def _plain_crop(area: AreaGround, label: Label) -> NDArray[np.uint8]:
    offset = CROP_PX / 2 - np.array([label.x, label.y])
    placement = Placement(np.column_stack([np.eye(2), offset]), CROP_PX)
    top, left, bottom, right = area.window_of(label)
    window = np.ascontiguousarray(area.pixels[top:bottom, left:right])
    return warp(window, placement.seen_from((left, top)))


def _cut(ground: Ground, spot: Spot, placement: Placement) -> NDArray[np.uint8]:
    """The placed crop; it sees no more than the spot's window (a mosaic's cell)."""
    top, left, bottom, right = spot.window
    window = ground.areas[spot.area].pixels[top:bottom, left:right]
    return warp(np.ascontiguousarray(window), placement.seen_from((left, top)))


def _as_input(crops: NDArray[np.uint8], device: torch.device) -> Tensor:
    mean, std = _COLOURS
    return normalise(torch.from_numpy(crops).to(device), mean, std)
