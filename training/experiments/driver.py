"""An experiment from end to end: runs that are missing, then results, tables and figures of all there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import RecipeError
from midog_qupath.files import write_bytes
from training.experiments.folds import SCANNERS, SLIDES
from training.experiments.markdown import markdown
from training.experiments.outcomes import Cell, keep_others, outcomes, read_csv, write_csv
from training.experiments.plan import Experiment
from training.experiments.plots import draw_block, draw_froc
from training.experiments.released import RELEASED, publish, start_model
from training.experiments.runs import Bench, Run, Start, carry_out, runs_of
from training.experiments.tables import blocks, table_lines


@dataclass(frozen=True)
class Selection:
    """Which runs to make; empty means all. ``rows``: parts of row names, ``folds``: names of folds."""

    rows: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def wants(self, run: Run) -> bool:
        """Whether a run is selected."""
        row = run.row.name.lower()
        return (not self.rows or any(part.lower() in row for part in self.rows)) and (
            not self.folds or run.fold.name in self.folds
        )


def make_runs(experiment: Experiment, bench: Bench, selection: Selection, steps: int | None) -> None:
    """Make the selected runs that have no result yet.

    Raises
    ------
    RecipeError
        If the selection fits no run.
    """
    seeds = selection.seeds or experiment.plan.seeds
    runs = [run for run in _all_runs(experiment, bench, seeds, steps) if selection.wants(run)]
    if not runs:
        raise RecipeError(
            f"No run of {experiment.name} is selected.",
            f"Rows: {'; '.join(row.name for row in experiment.rows)}.",
        )
    missing = [run for run in runs if run.result(bench) is None]
    bench.progress.note(f"{len(runs) - len(missing)} of {len(runs)} runs are done already.")
    for number, run in enumerate(missing, start=1):
        bench.progress.note(f"[{number} of {len(missing)}]")
        carry_out(run, bench)


def write_results(experiment: Experiment, bench: Bench, folder: Path, steps: int | None) -> None:
    """Bring ``runs.csv`` and ``cases.csv`` up to date, then tables and figures.

    Lines of runs that were made elsewhere stay while recipe and dataset are still the same; outdated ones go.
    """
    lines, cases = read_csv(folder / "runs.csv"), read_csv(folder / "cases.csv")
    seeds = sorted({*experiment.plan.seeds, *(int(line["seed"] or 0) for line in lines)})
    seeds = sorted({*seeds, *_seeds_in(experiment, bench)})
    runs = _all_runs(experiment, bench, seeds, steps)
    marks = {_run_key(run): (run.sha256[:12], bench.dataset.sha256[:12]) for run in runs}
    current = [
        line
        for line in lines
        if marks.get(_line_key(line)) == (line.get("recipe_sha256"), line.get("dataset_sha256"))
    ]
    known = {_line_key(line) for line in current}
    found = [result for run in runs if (result := run.result(bench))]
    new_lines, new_cases = outcomes(found)
    comment = f"Made by `{command_of(experiment)}`; never edit by hand."
    order = {_run_key(run): place for place, run in enumerate(runs)}
    lines = keep_others(new_lines, current)
    cases = keep_others(new_cases, [line for line in cases if _line_key(line) in known])
    write_csv(folder / "runs.csv", sorted(lines, key=lambda line: order[_line_key(line)]), comment)
    write_csv(folder / "cases.csv", sorted(cases, key=lambda line: order[_line_key(line)]), comment)
    write_tables(experiment, folder)


def write_tables(experiment: Experiment, folder: Path) -> None:
    """``table.csv``, ``table.md`` and figures from ``runs.csv`` and ``cases.csv``."""
    runs, cases = read_csv(folder / "runs.csv"), read_csv(folder / "cases.csv")
    if not runs:
        raise RecipeError(f"{folder} holds no results of {experiment.name}.", "Run the experiment first.")
    rows = [row.name for row in experiment.rows]
    found = blocks(runs, cases, rows)
    command = command_of(experiment)
    write_csv(folder / "table.csv", table_lines(found), f"Made by `{command}`; never edit by hand.")
    write_bytes(folder / "table.md", markdown(experiment.plan, command, found, runs).encode())
    for block in found:
        published = experiment.plan.published if block.title.split(":")[0] in (SLIDES, SCANNERS) else {}
        draw_block(block, published, folder / f"{_file_name(block.title)}.png")
    draw_froc(runs, rows, folder / "froc.png")


def publish_model(
    experiment: Experiment, bench: Bench, folder: Path, steps: int | None, product: Path = RELEASED
) -> Path:
    """Put the finished model into ``product``, its card with the tables of these very runs."""
    write_results(experiment, bench, folder, steps)
    return publish(bench, steps, folder, product)


def command_of(experiment: Experiment) -> str:
    """The command that makes the results of an experiment."""
    return f"./run experiments {experiment.name}"


def _all_runs(experiment: Experiment, bench: Bench, seeds: Sequence[int], steps: int | None) -> list[Run]:
    begins = any(row.learner in ("fine-tune", "as-is") for row in experiment.rows)
    start: Start | None = start_model(bench, steps) if begins else None
    return list(runs_of(experiment, bench.dataset, seeds, start))


def _seeds_in(experiment: Experiment, bench: Bench) -> set[int]:
    """Seeds beside the plan's that the work folder holds runs of."""
    folders = (bench.work / experiment.name).glob("*/*/seed-*")
    return {int(folder.name.split("-")[1]) for folder in folders}


def _run_key(run: Run) -> tuple[str, str, str]:
    return run.row.name, run.fold.name, str(run.seed)


def _line_key(line: Mapping[str, Cell]) -> tuple[str, str, str]:
    return str(line["row"]), str(line["fold"]), str(line["seed"])


def _file_name(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-").replace("--", "-")


def open_dataset(folder: Path) -> Dataset:
    """The dataset of a folder, with the experiments' own remedy where there is none.

    Raises
    ------
    RecipeError
        If the folder holds no dataset.
    """
    if not (folder / "dataset.json").is_file():
        raise RecipeError(
            f"{folder} holds no dataset.",
            f"Make it: ./run export ../shared/data/breast-mitosis -o {folder}",
        )
    return Dataset.open(folder)
