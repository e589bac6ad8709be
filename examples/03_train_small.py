"""A small model in a minute, to see the whole course: python examples/03_train_small.py PROJECT FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

from midog_qupath.dataset.export import export_project
from midog_qupath.dataset.read_image import ExportOptions
from midog_qupath.learning.recipe import load_recipe
from midog_qupath.learning.train import TrainOptions, train
from midog_qupath.models.bundle import read_card
from midog_qupath.progress import SILENT
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore


def main(path: Path, folder: Path, steps: int = 20) -> Path:
    """Export PROJECT, train a network too small to be good, and print what it says of itself."""
    project = open_project(path)
    with NativeStore(project) as store:
        data = export_project(project, store, ExportOptions(folder=folder / "dataset"), SILENT)
    demo = load_recipe("demo")
    recipe = demo.model_copy(
        update={
            "network": demo.network.model_copy(update={"encoder": "tu-mobilenetv3_small_050"}),
            "teacher": demo.teacher.model_copy(update={"steps": steps // 4}),
            "student": demo.student.model_copy(update={"steps": steps, "mine_at": ()}),
        }
    )
    model = train([data], TrainOptions(out=folder / "model", recipe=recipe, start=None, device="cpu"), SILENT)
    card = read_card(model)
    print(f"{model}: threshold {card.threshold:.3f}, {card.operating_point.chosen_on}")
    return model


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
