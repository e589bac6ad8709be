"""Options and output that several commands share."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
import orjson

if TYPE_CHECKING:
    from midog_qupath.progress import Progress
    from midog_qupath.project.model import Project
    from midog_qupath.project.stores.choose import StoreFactory

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A number in a range; NaN, which compares with nothing, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


project_argument = click.argument("project", type=click.Path(path_type=Path))
images_option = click.option(
    "--image",
    "images",
    multiple=True,
    metavar="PATTERN",
    help="Only images whose name fits, e.g. 'case_1*'. May be repeated.",
)
model_option = click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Model file or the folder of a training; default: the project's newest, else the released one.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
class_map_option = click.option(
    "--class-map",
    multiple=True,
    metavar="ROLE=CLASS",
    help="Name of a class in this project, e.g. mitosis='Mitotic figure'; roles: mitosis, normal, atypical, "
    "non_mitosis, region. May be repeated.",
)
ground_truth_option = click.option(
    "--ground-truth",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read annotations from GeoJSON files in this folder instead of from the project.",
)
mpp_option = click.option(
    "--mpp",
    type=FiniteRange(0.05, 10.0),
    help="Microns per pixel for images whose pixel size is known neither to the project nor to the file.",
)


@dataclass(frozen=True)
class StoreChoice:
    """Which store was asked for (None: whichever is best), and whether data files are checked."""

    name: str | None = None
    check: bool = True

    def open(self, project: Project, progress: Progress) -> StoreFactory:
        """What opens the store; tells the user which it is and why."""
        factory, reason = self.choose(project, progress)
        progress.note(f"Store: {reason}")
        return factory

    def choose(self, project: Project, progress: Progress) -> tuple[StoreFactory, str]:
        """What opens the store, and in words which it is and why."""
        from midog_qupath.project.stores.choose import choose_store

        return choose_store(project, self.name, check=self.check, warn=progress.warn)


def store_option(function: F) -> F:
    """``--store`` and ``--no-check``, as one :class:`StoreChoice` in the parameter ``store``."""

    @click.option(
        "--store",
        type=click.Choice(["paquo", "native", "sidecar"]),
        help="How objects are read and written; default: paquo where QuPath is found, else native.",
    )
    @click.option(
        "--no-check",
        is_flag=True,
        help="Store native: take a data file though its summary.json counts other objects in it.",
    )
    @functools.wraps(function)
    def with_choice(*args: Any, store: str | None, no_check: bool, **options: Any) -> Any:
        return function(*args, store=StoreChoice(store, check=not no_check), **options)

    return cast(F, with_choice)


def print_json(value: Any) -> None:
    """Write ``value`` to standard output as indented JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


class TerminalProgress:
    """Bars with rate and time left on stderr; standard output stays clean for data.

    Where stderr is no terminal, a line ``searching: 34 % (1.2 of 3.5 mm²)`` every few seconds instead: for
    logs, and for a program that shows them (``groovy/detect_mitoses.groovy`` does).
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._bars: Any = None

    @contextmanager
    def task(self, label: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        """A bar with rate in ``unit``/s and time left; tasks may stand inside one another."""
        if not self._console.is_terminal:
            lines = LogLines(label, total, unit, self.note)
            try:
                yield lines.advance
            finally:
                lines.close()
            return
        outermost = self._bars is None
        if outermost:
            self._bars = _bars(self._console)
            self._bars.start()
        bars = self._bars
        task = bars.add_task(label, total=total, unit=unit, rate="")

        def advance(amount: float) -> None:
            bars.advance(task, amount)
            row = next(t for t in bars.tasks if t.id == task)
            speed = row.finished_speed or row.speed
            if speed:
                bars.update(task, rate=f"{speed:.3g} {unit}/s")

        try:
            yield advance
        finally:
            if outermost:
                bars.stop()
                self._bars = None
            else:
                bars.remove_task(task)

    def note(self, message: str) -> None:
        """One line for the user."""
        self._console.print(message, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One line that needs attention."""
        self._console.print(f"Warning: {message}", style="yellow", markup=False, soft_wrap=True)


class LogLines:
    """How far a task is, as lines: one at once, another every ``EVERY_S`` seconds, and one at the end."""

    EVERY_S = 2.0

    def __init__(self, label: str, total: float, unit: str, say: Callable[[str], None]) -> None:
        self._label, self._total, self._unit, self._say = label, total, unit, say
        self._done = 0.0
        self._tell()

    def advance(self, amount: float) -> None:
        """``amount`` more of the task is done."""
        self._done += amount
        if time.monotonic() >= self._due:
            self._tell()

    def close(self) -> None:
        """The task has ended, done or not."""
        if self._done != self._said:
            self._tell()

    def _tell(self) -> None:
        self._due, self._said = time.monotonic() + self.EVERY_S, self._done
        percent = 100 if self._total <= 0 else min(100, int(100 * self._done / self._total))
        done, total = (
            f"{amount:.3g}" if amount < 1000 else f"{amount:.0f}" for amount in (self._done, self._total)
        )
        self._say(f"{self._label}: {percent} % ({done} of {total} {self._unit})")


def _bars(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )
