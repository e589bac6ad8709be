"""``midog-qupath train``: a model from projects or datasets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midog_qupath.cli.common import TerminalProgress, json_option, print_json
from midog_qupath.cli.learning import Duration, dataset_folder
from midog_qupath.progress import SILENT, Progress

if TYPE_CHECKING:
    from midog_qupath.learning.distributed import Team


@click.command("train")
@click.argument(
    "sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PROJECT|DATASET..."
)
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="MODEL_DIR",
    help="Folder of the model; default: <project>/midog-qupath/models/<time>, "
    "or models/<time> beside the dataset. "
    "A folder that holds an unfinished training of the same data, "
    "recipe, start and time limit is continued.",
)  # fmt: skip
@click.option("--recipe", default="standard", show_default=True, help="Shipped recipe, or a TOML file.")
@click.option(
    "--from", "start", metavar="MODEL|none", default=None,
    help="Model (file or folder) to continue from; none: from scratch; default: the released model.",
)  # fmt: skip
@click.option(
    "--time-limit", type=Duration(), help="Longest training time in all, e.g. 30m; default: by recipe."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@click.option("--seed", type=click.IntRange(min=0), help="Random seed; default: the recipe's.")
@json_option
def command(
    sources: tuple[Path, ...],
    output: Path | None,
    recipe: str,
    start: str | None,
    time_limit: float | None,
    device: str,
    seed: int | None,
    as_json: bool,
) -> None:
    """Train detector and classifier on what pathologists drew.

    PROJECT is a project.qpproj or its folder (its exported dataset is used, and made first where there is
    none); DATASET a folder that export wrote. Interrupted trainings continue when called again with the
    same -o.
    """
    from midog_qupath.learning.distributed import Membership

    with Membership() as team:
        asked = _Asked(sources, output, recipe, start, time_limit, device, seed)
        model = _train(asked, team, TerminalProgress() if team.first else SILENT)
        if as_json and team.first:
            _print_card(model)


@dataclass(frozen=True)
class _Asked:
    """What the command line says."""

    sources: tuple[Path, ...]
    output: Path | None
    recipe: str
    start: str | None
    time_limit: float | None
    device: str
    seed: int | None


def _train(asked: _Asked, team: Team, progress: Progress) -> Path:
    from midog_qupath.dataset.store import Dataset
    from midog_qupath.inference.device import choose_device
    from midog_qupath.learning.recipe import load_recipe
    from midog_qupath.learning.start import starting_model
    from midog_qupath.learning.train import TrainOptions, train

    chosen = load_recipe(asked.recipe)
    if asked.seed is not None:
        chosen = chosen.model_copy(update={"seed": asked.seed})
    kind = team.device(choose_device(asked.device))
    # One process exports and looks at the clock for all.
    folders = team.decide(lambda: [dataset_folder(source, progress) for source in asked.sources])
    options = TrainOptions(
        out=team.decide(lambda: asked.output or _default_output(folders[0])),
        recipe=chosen,
        start=starting_model(asked.start, chosen, progress),
        seconds=asked.time_limit,
        device=kind,
        team=team,
    )
    together = f" in {team.size} processes" if team.size > 1 else ""
    progress.note(f"Training {chosen.name} on {kind}{together} into {options.out}")
    model = train([Dataset.open(folder) for folder in folders], options, progress)
    progress.note(f"Model: {model}")
    return model


def _print_card(model: Path) -> None:
    from midog_qupath.models.bundle import read_card

    card = read_card(model)
    print_json({"model": str(model), **card.model_dump(mode="json", exclude={"recipe"})})


def _default_output(dataset: Path) -> Path:
    """``models/<time>`` in the project's own folder, or beside a dataset that lies elsewhere."""
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    return dataset.absolute().parent / "models" / time
