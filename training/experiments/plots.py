"""Figures of an experiment: every row with its seeds and interval; sensitivity against false positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from midog_qupath.files import atomic_writer
from training.experiments.folds import SOURCES
from training.experiments.measures import FROC_AT
from training.experiments.outcomes import Line
from training.experiments.tables import Block


def draw_block(block: Block, published: Mapping[str, float], path: Path) -> None:
    """A row a line: mean, 95 % interval, and the lowest and highest seed as dots."""
    figure = _figure((7.5, 1.1 + 0.42 * len(block.rows)))
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(block.rows)):
        if row.value is not None:
            axes.plot([row.value.low, row.value.high], [place, place], color="0.6", linewidth=4)
        axes.plot([row.spread.low, row.spread.high], [place, place], "o", color="tab:blue", markersize=4)
        axes.plot(row.spread.mean, place, "|", color="black", markersize=14, markeredgewidth=2)
    for source, value in published.items():
        axes.axvline(value, color="tab:red", linestyle="--", linewidth=1, label=source)
    if published:
        axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set_yticks(range(len(block.rows)), [row.row for row in reversed(block.rows)])
    axes.set_xlabel(block.kind.label)
    axes.grid(axis="x", linewidth=0.4)
    _save(figure, path)


def draw_froc(runs: Sequence[Line], rows: Sequence[str], path: Path) -> bool:
    """Sensitivity against false positives per mm², a panel a left-out source, a line a row (mean of seeds).

    Returns whether there was anything to draw.
    """
    folds = sorted({str(run["fold"]) for run in runs if run["group"] == SOURCES})
    if not folds:
        return False
    figure = _figure((4.6 * len(folds), 4.2))
    for number, fold in enumerate(folds, start=1):
        axes = figure.add_subplot(1, len(folds), number)
        for row in rows:
            mine = [run for run in runs if run["row"] == row and run["fold"] == fold]
            if mine:
                axes.plot(FROC_AT, _sensitivities(mine), marker=".", label=row)
        axes.set_xscale("log", base=2)
        axes.set_xticks(FROC_AT, [str(fp) for fp in FROC_AT])
        axes.set_ylim(0, 1)
        axes.set_title(f"{fold} left out", fontsize=10)
        axes.set_xlabel("false positives per mm²")
        axes.set_ylabel("sensitivity")
        axes.grid(linewidth=0.4)
    figure.axes[-1].legend(fontsize=7)
    _save(figure, path)
    return True


def _sensitivities(runs: Sequence[Line]) -> list[float]:
    return [
        float(np.mean([float(run.get(f"sensitivity_at_{fp}_per_mm2") or 0.0) for run in runs]))
        for fp in FROC_AT
    ]


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_writer(path) as stream:
        # Without the software's version the same figures give the same file.
        figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
