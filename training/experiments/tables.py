"""The tables of an experiment, from its ``runs.csv`` and ``cases.csv`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midog_qupath.evaluation.bootstrap import Interval
from training.experiments.folds import FEW_LABELS, IN_DOMAIN, NEGATIVES, SCANNERS, SLIDES, SOURCES
from training.experiments.outcomes import Cell, Line
from training.experiments.statistics import (
    Figure,
    FoldCounts,
    balanced_accuracy_figure,
    estimate,
    f1_figure,
    paired_difference,
)


@dataclass(frozen=True)
class Kind:
    """What is measured. ``figure``: None where it is only listed. ``others``: figures shown beside."""

    name: str
    label: str
    counts: tuple[str, ...]
    figure: Figure | None
    others: tuple[tuple[str, str], ...]


DETECTION = Kind(
    "f1",
    "F1",
    ("tp", "fp", "fn"),
    f1_figure,
    (
        ("precision", "P"),
        ("recall", "R"),
        ("ap", "AP"),
        ("froc", "FROC"),
        ("f1_own_threshold", "F1, threshold from seen sources"),
        ("f1_left_out_threshold", "F1, threshold from sources left out"),
        ("f1_hindsight", "F1, best in hindsight"),
    ),
)
#: Nothing is left there to choose a threshold on.
_DETECTION_FEW = replace(
    DETECTION, others=tuple(pair for pair in DETECTION.others if pair[0] != "f1_own_threshold")
)
TYPES = Kind(
    "balanced_accuracy",
    "balanced accuracy",
    ("normal", "atypical", "normal_right", "atypical_right"),
    balanced_accuracy_figure,
    (
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
        ("auroc", "AUROC"),
        ("balanced_accuracy_at_half", "at threshold 0.5"),
        ("balanced_accuracy_hindsight", "best in hindsight"),
    ),
)
FALSE_ALARMS = Kind("fp_per_mm2", "false positives per mm²", (), None, ())


@dataclass(frozen=True)
class Summary:
    """Mean over seeds of the mean over ``folds``; ``low`` and ``high``: the seeds' extremes."""

    mean: float
    low: float
    high: float
    folds: tuple[str, ...]


@dataclass(frozen=True)
class RowSummary:
    """One row of a block.

    ``by_fold``: of each fold the figures by name, means over seeds. ``before``, ``floor``: difference to
    the row before and to the first row.
    """

    row: str
    seeds: int
    value: Interval | None
    spread: Summary
    by_fold: Mapping[str, Mapping[str, float]]
    others: Mapping[str, Summary]
    before: Interval | None
    floor: Interval | None


@dataclass(frozen=True)
class Block:
    """One table: some folds, one kind of figure, all rows that have results."""

    title: str
    kind: Kind
    folds: tuple[str, ...]
    rows: tuple[RowSummary, ...]


def blocks(runs: Sequence[Line], cases: Sequence[Line], rows: Sequence[str]) -> list[Block]:
    """The tables that the results allow, rows in the plan's order."""
    found = [_block(title, kind, folds, runs, cases, rows) for title, kind, folds in _layout(runs)]
    return [block for block in found if block.rows]


def _layout(runs: Sequence[Line]) -> list[tuple[str, Kind, tuple[str, ...]]]:
    """Title, kind and folds of every table."""
    layout: list[tuple[str, Kind, tuple[str, ...]]] = []
    for group in (SOURCES, NEGATIVES, IN_DOMAIN, FEW_LABELS, SLIDES, SCANNERS):
        folds = tuple(dict.fromkeys(str(run["fold"]) for run in runs if run["group"] == group))
        if group == FEW_LABELS:
            by_number = sorted(folds, key=lambda fold: int(fold.split()[0]))
            layout += [(f"{group}: {fold}", _DETECTION_FEW, (fold,)) for fold in by_number]
        elif group == NEGATIVES:
            layout.append((f"{group}: {', '.join(folds)}", FALSE_ALARMS, folds))
        else:
            layout += [(f"{group}: {kind.label}", kind, tuple(sorted(folds))) for kind in (DETECTION, TYPES)]
    return layout


def _block(
    title: str,
    kind: Kind,
    folds: tuple[str, ...],
    runs: Sequence[Line],
    cases: Sequence[Line],
    rows: Sequence[str],
) -> Block:
    done = [row for row in rows if _seeds(runs, row, folds, kind)]
    summaries = []
    for index, row in enumerate(done):
        before = done[index - 1] if index else None
        floor = done[0] if index else None
        summaries.append(_row(kind, folds, runs, cases, row, before, floor))
    return Block(title, kind, folds, tuple(summaries))


def _row(
    kind: Kind,
    folds: tuple[str, ...],
    runs: Sequence[Line],
    cases: Sequence[Line],
    row: str,
    before: str | None,
    floor: str | None,
) -> RowSummary:
    seeds = _seeds(runs, row, folds, kind)
    mine = [run for run in runs if run["row"] == row and run["fold"] in folds and run["seed"] in seeds]
    spread = _summary(mine, kind.name)
    assert spread is not None
    others = {name: summary for name, _ in kind.others if (summary := _summary(mine, name))}
    counts = _counts(kind, folds, cases, [row], seeds)[0]
    return RowSummary(
        row=row,
        seeds=len(seeds),
        value=estimate(kind.figure, counts) if kind.figure else None,
        spread=spread,
        by_fold={fold: _of_fold(mine, fold, kind) for fold in folds},
        others=others,
        before=_difference(kind, folds, runs, cases, row, before),
        floor=_difference(kind, folds, runs, cases, row, floor),
    )


def _seeds(runs: Sequence[Line], row: str, folds: Sequence[str], kind: Kind) -> list[int]:
    """The seeds with which a row has been measured on every fold."""
    done: dict[int, set[str]] = {}
    for run in runs:
        if run["row"] == row and run["fold"] in folds and run.get(kind.name) is not None:
            done.setdefault(int(run["seed"] or 0), set()).add(str(run["fold"]))
    return sorted(seed for seed, measured in done.items() if folds and measured == set(folds))


def _difference(
    kind: Kind,
    folds: tuple[str, ...],
    runs: Sequence[Line],
    cases: Sequence[Line],
    row: str,
    other: str | None,
) -> Interval | None:
    """Paired difference of two rows over the seeds that both have; None where there is none."""
    if other is None or kind.figure is None:
        return None
    both = set(_seeds(runs, row, folds, kind)) & set(_seeds(runs, other, folds, kind))
    if not both:
        return None
    new, old = _counts(kind, folds, cases, [row, other], sorted(both))
    return paired_difference(kind.figure, new, old)


def _counts(
    kind: Kind, folds: Sequence[str], cases: Sequence[Line], rows: Sequence[str], seeds: Sequence[int]
) -> list[list[FoldCounts]]:
    """For each row and fold (seeds, units, counts), the units of a fold alike for all rows."""
    result: list[list[FoldCounts]] = [[] for _ in rows]
    for fold in folds:
        mine = [c for c in cases if c["fold"] == fold and c["row"] in rows and c["seed"] in seeds]
        mine = [c for c in mine if kind.counts and c.get(kind.counts[0]) is not None]
        units = {unit: i for i, unit in enumerate(sorted({str(c["unit"]) for c in mine}))}
        table = np.zeros((len(rows), len(seeds), len(units), len(kind.counts)), dtype=np.int64)
        for line in mine:
            where = (
                rows.index(str(line["row"])),
                seeds.index(int(line["seed"] or 0)),
                units[str(line["unit"])],
            )
            table[where] = [int(line[name] or 0) for name in kind.counts]
        for index in range(len(rows)):
            result[index].append(table[index])
    return result


def _summary(runs: Sequence[Line], name: str) -> Summary | None:
    """Over seeds, of the mean over those folds that have the figure."""
    by_seed: dict[Cell, list[float]] = {}
    for run in runs:
        if (value := run.get(name)) is not None:
            by_seed.setdefault(run["seed"], []).append(float(value))
    if not by_seed:
        return None
    means = [float(np.mean(values)) for values in by_seed.values()]
    folds = tuple(dict.fromkeys(str(run["fold"]) for run in runs if run.get(name) is not None))
    return Summary(float(np.mean(means)), min(means), max(means), folds)


def _of_fold(runs: Sequence[Line], fold: str, kind: Kind) -> dict[str, float]:
    """Means over seeds of the figures that a fold has."""
    mine = [run for run in runs if run["fold"] == fold]
    names = (kind.name, *(name for name, _ in kind.others))
    found = {name: [float(run[name] or 0) for run in mine if run.get(name) is not None] for name in names}
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def table_lines(found: Sequence[Block]) -> list[Line]:
    """The tables as lines of ``table.csv``."""
    lines: list[Line] = []
    for block in found:
        for row in block.rows:
            line: Line = {"table": block.title, "figure": block.kind.name, "row": row.row, "seeds": row.seeds}
            line |= {"mean": row.spread.mean, "lowest_seed": row.spread.low, "highest_seed": row.spread.high}
            line |= _estimate_cells("interval", row.value)
            line |= {name: summary.mean for name, summary in row.others.items()}
            for fold, figures in row.by_fold.items() if len(row.by_fold) > 1 else ():
                line |= {f"{fold}: {name}": value for name, value in figures.items()}
            line |= _estimate_cells("to_row_before", row.before)
            line |= _estimate_cells("to_first_row", row.floor)
            lines.append(line)
    return lines


def _estimate_cells(name: str, value: Interval | None) -> Line:
    if value is None:
        return {}
    ends: Line = {f"{name}_low": value.low, f"{name}_high": value.high}
    return ends if name == "interval" else {name: value.value, **ends}
