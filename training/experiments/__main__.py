"""``./run experiments NAME``: the tables of the method, from the dataset."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from midog_qupath.cli.common import TerminalProgress
from midog_qupath.errors import MidogError

_ROOT = Path(__file__).parents[2]


class _Seeds(click.ParamType[tuple[int, ...]]):
    name = "seeds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} are no numbers: write 0,1,2.", param, ctx)


@click.command("experiments")
@click.argument("name", metavar="NAME")
@click.option("--only", multiple=True, metavar="ROW", help="Part of the name of a row; may be repeated.")
@click.option("--fold", "folds", multiple=True, metavar="FOLD", help="Name of a fold; may be repeated.")
@click.option("--seeds", type=_Seeds(), default=(), metavar="0,1,2", help="Default: those of the plan.")
@click.option(
    "--dataset", type=click.Path(path_type=Path), default=_ROOT / ".experiments" / "dataset",
    help="Folder that export wrote; default: .experiments/dataset.",
)  # fmt: skip
@click.option(
    "--work", type=click.Path(path_type=Path), default=_ROOT / ".experiments",
    help="Folder of trainings and candidates; default: .experiments.",
)  # fmt: skip
@click.option(
    "--results", type=click.Path(path_type=Path),
    help="Folder of results; default: training/results, with --steps WORK/results.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@click.option("--steps", type=click.IntRange(min=2), help="Other number of steps, to try things out.")
@click.option(
    "--nuclei", type=click.Path(path_type=Path), default=_ROOT.parent / "shared" / "data" / "nuclei",
    help="With `masks`: folder of images with outlined nuclei; default: ../shared/data/nuclei.",
)  # fmt: skip
@click.option("--table-only", is_flag=True, help="Only make tables and figures anew from the CSVs.")
@click.option("--runs-only", is_flag=True, help="Only make runs, e.g. on another machine; no tables.")
@click.option(
    "--publish", is_flag=True, help="With `released`: put the finished model where the product finds it."
)
def command(
    name: str,
    only: tuple[str, ...],
    folds: tuple[str, ...],
    seeds: tuple[int, ...],
    dataset: Path,
    work: Path,
    results: Path | None,
    device: str,
    steps: int | None,
    nuclei: Path,
    table_only: bool,
    runs_only: bool,
    publish: bool,
) -> None:
    """Make the runs of experiment NAME that are missing, then its tables and figures.

    Runs resume where they were interrupted, and are skipped when their result exists for the same recipe
    and the same dataset.
    """
    from midog_qupath.inference.device import choose_device
    from training.experiments import driver
    from training.experiments.masks import MASKS, make_masks, write_mask_table
    from training.experiments.plan import load_experiment
    from training.experiments.runs import Bench

    folder = (results or (work if steps else _ROOT / "training") / "results") / name
    if name == MASKS and table_only:
        write_mask_table(folder)
        return
    if name == MASKS:
        bench = Bench(driver.open_dataset(dataset), work, choose_device(device), TerminalProgress())
        make_masks(bench, nuclei, folder, seeds, steps)
        bench.progress.note(f"Tables: {folder}")
        return
    experiment = load_experiment(name, steps)
    if table_only:
        driver.write_tables(experiment, folder)
        return
    bench = Bench(driver.open_dataset(dataset), work, choose_device(device), TerminalProgress())
    if publish:
        if name != "released":
            raise click.UsageError(f"--publish goes with `released`, not with {name}.")
        bench.progress.note(f"Model: {driver.publish_model(experiment, bench, folder, steps)}")
        return
    driver.make_runs(experiment, bench, driver.Selection(only, folds, seeds), steps)
    if not runs_only:
        driver.write_results(experiment, bench, folder, steps)
        bench.progress.note(f"Tables: {folder}")


if __name__ == "__main__":
    try:
        command(prog_name="./run experiments")
    except MidogError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
