"""The tables of an experiment in words: ``table.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midog_qupath.evaluation.bootstrap import Interval
from training.experiments.folds import FEW_LABELS, IN_DOMAIN, NEGATIVES, SCANNERS, SLIDES, SOURCES
from training.experiments.outcomes import Line
from training.experiments.plan import Plan
from training.experiments.tables import DETECTION, Block, RowSummary, Summary

_ALWAYS = (
    "Each figure is the mean over seeds of the mean over the folds, in brackets its 95 % interval "
    "(bootstrap by case, all seeds at once; by image where fewer than five cases of a fold hold mitoses); "
    "*seeds* gives the lowest and highest seed. Differences are paired (same resampled cases for both rows); "
    "one whose interval holds 0 is no effect. The intervals tell how much depends on the cases at hand, not "
    "on the sources: those are too few to resample. Each field of MiDeSeC counts as a case of its own: which "
    "are of one patient was not published. Where some of them trained and others tested, and in intervals, "
    "figures may be too optimistic.",
)
_THRESHOLDS: Mapping[str, str] = {
    SOURCES: "The threshold of a fold is chosen on the other left-out sources, on the predictions of the "
    "same row's and seed's models that did not see them: never on the fold it is applied to. *Threshold "
    "from seen sources*: chosen on validation cases of the sources trained on, where these hold enough. "
    "*Best in hindsight*: chosen on the test itself, an upper limit and no result.",
    SLIDES: "The threshold of a fold is chosen on the left-out predictions for the other folds (same "
    "row, same seed). Mosaics only: every mitosis is known to be one, and only its type is asked.",
    SCANNERS: "One scanner left out at a time, all its slides; the threshold is chosen on the left-out "
    "predictions for the other scanners.",
    IN_DOMAIN: "Left-out cases of the sources trained on; the threshold is chosen on other such cases. "
    "*Threshold from sources left out*: as the released model's is chosen.",
    NEGATIVES: "A source without mitoses, left out; threshold from the left-out sources with mitoses.",
    FEW_LABELS: "Fields of one source drawn at random (another draw for each seed) until they hold so "
    "many mitoses; tested on fields outside the largest draw. The model to start from has not seen the "
    "source. All mitoses of the draw train, none is left to choose a threshold: what was trained from "
    "scratch has the default, which no case chose (so look at AP and *best in hindsight*), the others have "
    "that of the model to start from.",
}


def markdown(plan: Plan, command: str, found: Sequence[Block], runs: Sequence[Line]) -> str:
    """The whole document. ``command`` is what makes it."""
    header = f"<!-- Made by `{command}` from runs.csv and cases.csv; never edit by hand. -->"
    parts = [header, f"# {plan.title}", *_ALWAYS]
    parts += [_block_text(block, plan) for block in found] or ["No fold is complete yet."]
    parts.append(_made_by(runs))
    return "\n\n".join(parts) + "\n"


def _block_text(block: Block, plan: Plan) -> str:
    group = block.title.split(":")[0]
    lines = [f"## {block.title[0].upper()}{block.title[1:]}"]
    if group in _THRESHOLDS:
        lines += ["", _THRESHOLDS[group]]
    lines += ["", *_table(block, plan if group in (SLIDES, SCANNERS) else None)]
    lines += _fold_tables(block)
    return "\n".join(lines)


def _table(block: Block, plan: Plan | None) -> list[str]:
    others = [(name, label) for name, label in block.kind.others if any(name in r.others for r in block.rows)]
    folds = block.folds if len(block.folds) > 1 else ()
    compared = any(row.before for row in block.rows)
    headings = ["row", block.kind.label, "seeds", *folds, *(label for _, label in others)]
    headings += ["to the row before", "to the first row"] if compared else []
    lines = [_line(headings), _line(["---"] * len(headings))]
    for row in block.rows:
        cells = [
            row.row,
            _with_interval(row),
            _seeds(row.spread),
            *(_of_fold(row, f, block.kind.name) for f in folds),
        ]
        cells += [_other(row, name) for name, _ in others]
        cells += [difference_text(row.before), difference_text(row.floor)] if compared else []
        lines.append(_line(cells))
    for source, value in (plan.published if plan else {}).items():
        lines.append(_line([source, f"{value:.4f}"] + [""] * (len(headings) - 2)))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _with_interval(row: RowSummary) -> str:
    if row.value is None:
        return f"{row.spread.mean:.2f}"
    return f"**{row.spread.mean:.3f}** [{row.value.low:.3f}, {row.value.high:.3f}]"


def _seeds(spread: Summary) -> str:
    return f"{spread.low:.3f} to {spread.high:.3f}"


def _other(row: RowSummary, name: str) -> str:
    summary = row.others.get(name)
    if summary is None:
        return "–"
    # A figure that not every fold has must not pass for the mean of all.
    only = "" if len(summary.folds) == len(row.by_fold) else f" ({', '.join(summary.folds)} only)"
    return f"{summary.mean:.3f}{only}"


def _of_fold(row: RowSummary, fold: str, name: str) -> str:
    value = row.by_fold[fold].get(name)
    return "–" if value is None else f"{value:.3f}"


def _fold_tables(block: Block) -> list[str]:
    """All figures of each fold, where there are few folds."""
    if block.kind is not DETECTION or len(block.folds) < 2:
        return []
    columns = [(block.kind.name, block.kind.label), *block.kind.others]
    lines = []
    for fold in block.folds:
        used = [(n, label) for n, label in columns if any(n in row.by_fold[fold] for row in block.rows)]
        lines += ["", f"{fold} alone (mean over seeds):", ""]
        lines += [_line(["row", *(label for _, label in used)]), _line(["---"] * (len(used) + 1))]
        lines += [_line([row.row, *(_of_fold(row, fold, n) for n, _ in used)]) for row in block.rows]
    return lines


def difference_text(value: Interval | None) -> str:
    """A difference with its interval, and whether it is one."""
    if value is None:
        return "–"
    numbers = f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
    return f"no effect ({numbers})" if value.holds_zero else numbers


def _made_by(runs: Sequence[Line]) -> str:
    hours = sum(float(run["seconds"] or 0) for run in runs) / 3600
    steps = "/".join(sorted({str(run["steps"]) for run in runs}))
    devices = ", ".join(sorted({str(run["device"]) for run in runs}))
    codes = sorted({str(run["code_sha256"]) for run in runs})
    longest = max((float(run["seconds"] or 0) for run in runs), default=0.0)
    text = (
        f"{len(runs)} runs of {steps} steps, {hours:.1f} hours in all, the longest {longest / 60:.1f} "
        f"minutes, on {devices}; dataset {', '.join(sorted({str(run['dataset_sha256']) for run in runs}))}, "
        f"learning code {', '.join(codes)}."
    )
    if len(codes) > 1:
        text += " **Runs of different versions of the code are mixed here.**"
    return text
