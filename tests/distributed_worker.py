"""One of two processes that train together: a step's gradient, a tiny training, and a command that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from midog_qupath.cli import main as cli
from midog_qupath.dataset.store import Dataset
from midog_qupath.learning import train as training
from midog_qupath.learning.distributed import Membership, Team
from midog_qupath.learning.ground import SpotSet, gather
from midog_qupath.learning.objective import StudentObjective, choose_compute, empty_bank, pixel_weights
from midog_qupath.learning.pseudo_masks import first_masks
from midog_qupath.learning.recipe import Recipe, TeacherRecipe
from midog_qupath.learning.teacher import Lesson
from midog_qupath.learning.tiles import TileSource
from midog_qupath.learning.training import Training, new_card
from midog_qupath.models.student import Student
from midog_qupath.progress import SILENT

TINY = Recipe.model_validate(
    {
        "name": "tiny",
        "precision": "fp32",
        "network": {
            "encoder": "tu-mobilenetv3_small_050",
            "decoder_channels": [16, 16],
            "classifier_channels": 8,
        },
        # Wide tiles no wider than the small ones: a share of a batch of one tile would be another batch.
        "sampling": {"tile_px": 64, "batch": 6, "wide_px": 64},
        "optimiser": {"learning_rate": 4e-3, "ema": 0.9},
        "teacher": {"steps": 2},
        "student": {"steps": 6, "contrastive_bank": 64, "mine_at": [0.5]},
    }
)


def share_gradient(data: Dataset, rank: int, processes: int, frozen_norm: bool = False) -> Student:
    """The tiny student after the backward pass of its share of one step's batch."""
    ground = gather([data], lambda row: row.split == "train", soft_labels=True)
    ground = ground.with_maps([first_masks(area, TeacherRecipe(masks="disc")) for area in ground.areas])
    torch.manual_seed(5)
    network = Student(TINY.network).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d) and frozen_norm:
            module.eval()
    objective = StudentObjective(
        network=network,
        domain_head=None,
        source=TileSource(
            ground,
            TINY.sampling,
            TINY.augmentation,
            TINY.network.stride,
            0,
            SpotSet(()),
            rank=rank,
            processes=processes,
        ),
        card=new_card("", TINY, ground, [data], has_atypical=True),
        compute=choose_compute("cpu", "fp32"),
        recipe=TINY.student,
        class_weights=pixel_weights(2.0),
        bank=empty_bank(TINY.network.embedding_dim, torch.device("cpu")),
    )
    total = objective(3, 0.5)["total"]
    assert isinstance(total, torch.Tensor)
    total.backward()
    return network


def gradients(network: Student) -> dict[str, torch.Tensor | None]:
    """Gradient of each parameter by name, None where it has none."""
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def main(folder: Path) -> None:
    """Leave this process's gradient and its student's weights in ``folder``."""
    data = Dataset.open(folder / "data")
    with Membership() as team:
        network = share_gradient(data, team.rank, team.size)
        team.average_gradients(list(network.parameters()), [])
        torch.save(gradients(network), folder / f"gradients-{team.rank}.pt")
        _train(folder, data, team)


def _train(folder: Path, data: Dataset, team: Team) -> None:
    study = training.study

    def keeping(arguments: Training, lesson: Lesson) -> Student:
        student = study(arguments, lesson)
        torch.save(student.state_dict(), folder / f"student-{team.rank}.pt")
        return student

    training.study = keeping
    training.train([data], training.TrainOptions(folder / "model", TINY, team=team), SILENT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os.environ["MASTER_PORT"] = sys.argv[2]
    sys.argv[1:] = ["train", sys.argv[1] + "/nothing", "--device", "cpu"]
    cli.main()
