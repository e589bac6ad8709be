"""A whole training: seeds, teacher, pseudo-masks, student with classifier, operating point, bundle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midog_qupath.dataset.format import ImageRow, ObjectRow
from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import DatasetError, RecipeError
from midog_qupath.inference.device import device_name
from midog_qupath.learning.distributed import Team
from midog_qupath.learning.fitting import fit_recipe, knows_types
from midog_qupath.learning.ground import Ground, gather
from midog_qupath.learning.operating_point import (
    FEWEST,
    choose_operating_point,
    estimate_seconds,
    scores_alike,
    unchosen,
)
from midog_qupath.learning.recipe import Recipe
from midog_qupath.learning.runlog import draw_curves
from midog_qupath.learning.student import study
from midog_qupath.learning.teacher import teach
from midog_qupath.learning.training import Training, new_card
from midog_qupath.learning.workfolder import WorkFolder
from midog_qupath.models.bundle import (
    Bundle,
    BundleCard,
    OperatingPoint,
    load_bundle,
    round_weights,
    save_bundle,
)
from midog_qupath.models.student import Student
from midog_qupath.progress import SILENT, Progress
from midog_qupath.wording import counted

Keep = Callable[[ObjectRow | ImageRow], bool]


@dataclass(frozen=True)
class TrainOptions:
    """Where and how to train. ``start``: a model to continue from; ``seconds``: time limit in all.

    ``team``: the processes that train together, each of which calls :func:`train`.
    """

    out: Path
    recipe: Recipe
    start: Path | None = None
    seconds: float | None = None
    device: str = "cpu"
    team: Team = field(default_factory=Team)


def train(datasets: Sequence[Dataset], options: TrainOptions, progress: Progress) -> Path:
    """Train a model on the training cases of datasets; returns the bundle's path.

    Validation cases choose the operating point, test cases are not looked at. An interrupted training
    continues when it is called again with the same folder, data and recipe.

    Raises
    ------
    DatasetError
        If there is nothing to learn a mitosis, or nothing to learn its absence from.
    ModelError
        If the folder is taken, or the model to start from cannot be read.
    """
    started, team = time.monotonic(), options.team
    progress = progress if team.first else SILENT
    start = load_bundle(options.start, options.device) if options.start else None
    asked = options.recipe
    if start:
        asked = asked.model_copy(update={"network": start.card.network})
    ground = gather(datasets, _in_split("train"), asked.student.soft_labels)
    recipe = fit_recipe(asked, ground, progress)
    if recipe.sampling.batch < team.size:
        raise RecipeError(
            f"A batch of {recipe.sampling.batch} tiles cannot be shared by {team.size} processes.",
            "Raise sampling.batch in the recipe, or give torchrun fewer processes.",
        )
    folder = WorkFolder(options.out)
    if team.decide(lambda: folder.begin(_settings(datasets, options))):
        progress.note(f"Continuing the training in {options.out}.")
    card = new_card(
        options.out.name,
        recipe,
        ground,
        datasets,
        has_atypical=knows_types(ground) and recipe.student.classifier_weight > 0,
        device=device_name(options.device),
    )
    if start:
        card = _continuing(card, start.card)
    validation = _validation(datasets, card, progress)
    training = Training(
        recipe=recipe,
        ground=ground,
        card=card,
        device=options.device,
        folder=folder,
        progress=progress,
        seconds=options.seconds,
        seconds_after=_seconds_after(card, validation, options),
        started=started,
        start=start.network if start else None,
        team=team,
    )
    student = study(training, teach(training))
    if team.first:
        _finish(training, student, validation, start)
    team.wait()
    return folder.model


def _in_split(split: str) -> Keep:
    return lambda row: row.split == split


def _settings(datasets: Sequence[Dataset], options: TrainOptions) -> dict[str, Any]:
    """What must be the same for an interrupted training to continue."""
    return {
        "datasets": [data.sha256 for data in datasets],
        "recipe": options.recipe.model_dump(mode="json"),
        "start": str(options.start) if options.start else None,
        "time_limit_seconds": options.seconds,
    }


def _continuing(card: BundleCard, start: BundleCard) -> BundleCard:
    """What was learnt from another model stays under its terms, and its cases stay seen."""
    return card.model_copy(
        update={
            "licence": start.licence,
            "trained_cases": tuple(sorted({*card.trained_cases, *start.trained_cases})),
            "tuned_cases": start.tuned_cases,
            "notes": (*card.notes, f"continued from {start.name} of {start.created}"),
        }
    )


def _seconds_after(card: BundleCard, validation: Ground | None, options: TrainOptions) -> float:
    if options.seconds is None:
        return 0.0
    untrained = Student(card.network).eval().to(options.device)
    point = unchosen(Recipe.model_validate(card.recipe).operating_point)
    card = card.model_copy(update={"operating_point": point})
    return estimate_seconds(Bundle(card, untrained, ""), validation)


def _finish(training: Training, student: Student, validation: Ground | None, start: Bundle | None) -> None:
    """Choose the operating point, write the bundle and the curves, remove the work files."""
    before = unchosen(training.recipe.operating_point)
    if start and scores_alike(before, start.card.operating_point):
        # Better than none: cases that chose it were left out of the model that this one continues. But a
        # level of nuclei belongs to its weights, which have moved.
        before = start.card.operating_point.model_copy(update={"nuclei_level": 0.0})
    card = training.card.model_copy(update={"operating_point": before})
    round_weights(student)
    bundle = Bundle(card, student.eval(), "")
    point = choose_operating_point(bundle, validation, training.progress)
    tuned = {*card.tuned_cases, *(validation.cases if validation else ())}
    card = card.model_copy(update={"operating_point": point, "tuned_cases": tuple(sorted(tuned))})
    save_bundle(training.folder.model, card, student)
    draw_curves(training.folder.log, training.folder.curves)
    training.folder.clean()
    training.progress.note(_told(point, before))


def _told(point: OperatingPoint, before: OperatingPoint) -> str:
    if point.chosen_on != before.chosen_on:
        return f"Threshold {point.threshold:.3f}, chosen on {point.chosen_on}."
    kept = f"Threshold {point.threshold:.3f} as before this training"
    return f"{kept}: the validation cases have too few mitoses (fewer than {FEWEST}) to choose another."


def _validation(datasets: Sequence[Dataset], card: BundleCard, progress: Progress) -> Ground | None:
    """The validation cases that the model that this one continues was not trained on; None without any."""
    in_split, trained = _in_split("val"), frozenset(card.trained_cases)
    images = {row.case for data in datasets for row in data.images if in_split(row)}
    objects = {row.case for data in datasets for row in data.objects if in_split(row)}
    seen = (images | objects) & trained
    if seen:
        progress.note(
            f"Left out of choosing the threshold: {counted(len(seen), 'validation case')} that the model to "
            "start from was trained on."
        )
    try:
        return gather(
            datasets,
            lambda row: in_split(row) and row.case not in trained,
            soft_labels=False,
            domains=card.domains,
        )
    except DatasetError:
        return None
