"""A teacher without a student: to look at the masks that a training would learn from."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midog_qupath.dataset.store import Dataset
from midog_qupath.learning.fitting import fit_recipe
from midog_qupath.learning.ground import gather
from midog_qupath.learning.point_masks import as_points
from midog_qupath.learning.recipe import Recipe
from midog_qupath.learning.teacher import teach
from midog_qupath.learning.training import Training, new_card
from midog_qupath.learning.workfolder import WorkFolder
from midog_qupath.models.bundle import BundleCard, save_bundle
from midog_qupath.models.student import Student
from midog_qupath.progress import Progress


@dataclass(frozen=True)
class TeachOptions:
    """How to train a teacher. ``seconds``: longest time, None for the recipe's steps.

    ``points_only``: drawn outlines are not shown to it, only their centres.
    """

    recipe: Recipe
    seconds: float | None = None
    device: str = "cpu"
    points_only: bool = False


def train_teacher(
    datasets: Sequence[Dataset], options: TeachOptions, out: Path, progress: Progress
) -> Path | None:
    """Train a recipe's teacher on the training cases and save it as the bundle ``out``.

    Returns ``out``, or None where the recipe has no teacher.

    Raises
    ------
    DatasetError
        If there is nothing to learn a mitosis, or nothing to learn its absence from.
    """
    with tempfile.TemporaryDirectory(prefix="midog-qupath-") as work:
        taught = teach_in(WorkFolder(Path(work)), datasets, options, progress)
    if taught is None:
        return None
    card, teacher = taught
    save_bundle(out, card, teacher)
    return out


def teach_in(
    folder: WorkFolder, datasets: Sequence[Dataset], options: TeachOptions, progress: Progress
) -> tuple[BundleCard, Student] | None:
    """Train a recipe's teacher in a folder, which keeps its masks; None where the recipe has no teacher.

    A training whose folder takes them over (:meth:`WorkFolder.take_over`) finds its teacher done. Called
    again with the same folder, an interrupted teacher continues and a finished one is read.

    Raises
    ------
    DatasetError
        If there is nothing to learn a mitosis, or nothing to learn its absence from.
    ModelError
        If the folder holds a teacher of other data or another recipe.
    """
    ground = gather(datasets, lambda row: row.split == "train", options.recipe.student.soft_labels)
    if options.points_only:
        ground = as_points(ground)
    recipe = fit_recipe(options.recipe, ground, progress)
    if recipe.teacher.masks != "teacher":
        return None
    card = new_card(
        f"teacher of {recipe.name}",
        recipe,
        ground,
        datasets,
        has_atypical=False,
        notes=("teacher alone: its classifier is untrained and it has no operating point",),
    )
    folder.begin(
        {
            "datasets": [data.sha256 for data in datasets],
            "points_only": options.points_only,
            "teacher": teacher_settings(recipe),
        }
    )
    training = Training(
        recipe=recipe,
        ground=ground,
        card=card,
        device=options.device,
        folder=folder,
        progress=progress,
        # A teacher uses its share of a training's time.
        seconds=options.seconds / recipe.teacher.share_of_time if options.seconds else None,
    )
    teacher = teach(training).teacher
    assert teacher is not None
    return card, teacher


def teacher_settings(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe the teacher and its masks depend on: trainings alike in this have one teacher."""
    kept = {"seed", "precision", "network", "sampling", "augmentation", "optimiser", "teacher"}
    settings = recipe.model_dump(mode="json", include=kept)
    # Nothing is mined before there is a teacher.
    del settings["sampling"]["share_mined"]
    return {**settings, "mitosis_pixel_weight": recipe.student.mitosis_pixel_weight}
