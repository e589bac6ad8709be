"""The log of a training: a CSV file that grows, and its curves as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

#: Steps between two rows of the log.
EVERY = 10


class RunLog:
    """Means of each value over ten steps, appended to ``log.csv``: phase, step, name, value.

    One row a value ("long" form): the phases have different losses. A training that continues takes
    out the rows after the step it continues from.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sums: dict[str, list[float]] = {}

    def rewind(self, phase: str, step: int) -> None:
        """Begin a phase, or continue it after ``step``: the rows after it are about to be written again."""
        self._sums.clear()
        kept = [r for r in read_log(self.path) if r[0] != phase or r[1] <= step]
        self._write(kept, append=False)

    def add(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        """Remember one step; write a row a value every tenth step."""
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value)
        if step % EVERY == 0:
            rows = [(phase, step, name, sum(v) / len(v)) for name, v in self._sums.items()]
            self._write(rows, append=True)
            self._sums.clear()

    def _write(self, rows: list[tuple[str, int, str, float]], append: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not append or not self.path.is_file()
        with self.path.open("a" if append else "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if fresh:
                writer.writerow(("phase", "step", "name", "value"))
            writer.writerows((p, s, n, f"{v:.6g}") for p, s, n, v in rows)


def read_log(path: Path) -> list[tuple[str, int, str, float]]:
    """Rows of a log: phase, step, name, value; none where nothing was logged yet."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        next(rows, None)
        return [(r[0], int(r[1]), r[2], float(r[3])) for r in rows if len(r) == 4]


def draw_curves(log: Path, picture: Path) -> None:
    """One panel a logged value over the steps, a line a phase, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_log(log)
    names = list(dict.fromkeys(row[2] for row in rows))
    if not names:
        return
    columns = 3
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.5 * columns, 2.8 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for position, name in enumerate(names, start=1):
        axes = figure.add_subplot(lines, columns, position)
        for phase in dict.fromkeys(row[0] for row in rows if row[2] == name):
            points = [(row[1], row[3]) for row in rows if row[0] == phase and row[2] == name]
            axes.plot(*zip(*points, strict=True), label=phase, linewidth=1)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step")
        axes.legend(fontsize=7)
    figure.savefig(picture, dpi=100)
