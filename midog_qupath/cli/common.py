"""Options and output that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson

F = TypeVar("F", bound=Callable[..., Any])

project_argument = click.argument("project", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
class_map_option = click.option(
    "--class-map",
    multiple=True,
    metavar="ROLE=CLASS",
    help="Name of a class in this project, e.g. mitosis='Mitotic figure'; roles: mitosis, normal, atypical, "
    "non_mitosis, region. May be repeated.",
)
store_option = click.option(
    "--store",
    type=click.Choice(["paquo", "native", "sidecar"]),
    help="How objects are read and written; default: paquo where QuPath is found, else native.",
)
ground_truth_option = click.option(
    "--ground-truth",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read annotations from GeoJSON files in this folder instead of from the project.",
)
mpp_option = click.option(
    "--mpp",
    type=click.FloatRange(0.05, 10.0),
    help="Microns per pixel for images whose pixel size is known neither to the project nor to the file.",
)


def print_json(value: Any) -> None:
    """Write ``value`` to standard output as indented JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


class TerminalProgress:
    """Bars with rate and time left on stderr; standard output stays clean for data."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def task(self, label: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        """A bar with rate in ``unit``/s and time left."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=not sys.stderr.isatty()) as bars:
            task = bars.add_task(label, total=total, rate="")

            def advance(amount: float) -> None:
                bars.advance(task, amount)
                speed = bars.tasks[0].finished_speed or bars.tasks[0].speed
                if speed:
                    bars.update(task, rate=f"{speed:.3g} {unit}/s")

            yield advance

    def note(self, message: str) -> None:
        """One line for the user."""
        self._console.print(message, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One line that needs attention."""
        self._console.print(f"Warning: {message}", style="yellow", markup=False, soft_wrap=True)
