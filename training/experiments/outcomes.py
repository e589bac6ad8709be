"""From the runs' candidates to ``runs.csv`` and ``cases.csv``: thresholds, figures, counts by case.

These two files hold all that tables and figures need; they are committed, the candidates are not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midog_qupath import files
from midog_qupath.evaluation.curves import roc_auc
from midog_qupath.evaluation.metrics import Counts, ScoredImage, best_threshold, count, pooled, type_score
from midog_qupath.learning.operating_point import best_type_threshold, lowest_nuclei
from midog_qupath.learning.scoring import ScoredField
from training.experiments.folds import OWN, SOURCES
from training.experiments.measures import (
    detection_figures,
    threshold_free_figures,
    type_figures,
)
from training.experiments.records import RunResult

Cell = str | int | float | None
Line = dict[str, Cell]
KEY = ("row", "fold", "seed")
#: Columns that hold words even where they look like numbers.
_WORDS = {"row", "fold", "group", "unit", "unit_kind", "device", "torch", "what", "way", "image"}
#: A fold with fewer cases that hold a mitosis is resampled by image.
_FEWEST_CASES = 5


def outcomes(results: Sequence[RunResult]) -> tuple[list[Line], list[Line]]:
    """Lines of ``runs.csv`` (one a run) and ``cases.csv`` (one a run and resampled unit)."""
    runs: list[Line] = []
    cases: list[Line] = []
    for result in results:
        others = [r for r in results if _chooses_for(r, result, result.threshold_from)]
        key: Line = {"row": result.key.row, "fold": result.key.fold, "seed": result.key.seed}
        detection, by_field = _detection(result, others)
        if result.threshold_from == OWN and detection.get("mitoses"):
            left_out = [r for r in results if _chooses_for(r, result, SOURCES)]
            detection |= {"f1_left_out_threshold": _f1(result, _from_left_out(left_out))}
        types, by_case = _types(result, others)
        runs.append({**key, **_about(result), **detection, **types})
        cases.extend({**key, "group": result.group, **line} for line in [*by_field, *by_case])
    return runs, cases


def _chooses_for(other: RunResult, result: RunResult, group: str) -> bool:
    """Whether the left-out predictions of ``other``, a fold of this group, choose a threshold for it."""
    same = (other.key.row, other.key.seed) == (result.key.row, result.key.seed)
    return same and other.group == group and other.key.fold != result.key.fold


def _about(result: RunResult) -> Line:
    return {
        "group": result.group,
        "recipe_sha256": result.recipe_sha256[:12],
        "dataset_sha256": result.dataset_sha256[:12],
        "code_sha256": result.code_sha256,
        "torch": result.software.get("torch"),
        "device": result.device,
        "steps": result.steps,
        "seconds": result.seconds,
        "mitoses_trained": result.mitoses_trained,
    }


@dataclass(frozen=True)
class Decision:
    """From which probability a candidate of a run counts, and at which level of nuclei that was chosen."""

    threshold: float
    nuclei_level: float

    def images(self, result: RunResult) -> list[ScoredField]:
        """The fields of a run as its user would see them."""
        return [field.scored(self.nuclei_level) for field in result.fields]


def decision(result: RunResult, others: Sequence[RunResult]) -> Decision | None:
    """That of a run: its own, or the best on what others say of the folds left out for them."""
    if result.threshold_from == OWN:
        own = result.own_threshold
        return None if own is None else Decision(own, result.own_nuclei_level)
    return _from_left_out(others)


def _from_left_out(others: Sequence[RunResult]) -> Decision | None:
    images = [image for other in others for image in other.images]
    if not any(len(i.truth) for i in images) or not any(len(i.predictions) for i in images):
        return None
    return Decision(best_threshold(images)[0], lowest_nuclei(images))


def type_threshold(result: RunResult, others: Sequence[RunResult]) -> float | None:
    """The atypical threshold of a run, chosen like its :func:`decision`."""
    if result.threshold_from == OWN:
        return result.own_atypical_threshold
    labels = np.concatenate([np.empty(0, bool), *(other.types.labels() for other in others)])
    scores = np.concatenate([np.empty(0), *(other.types.scores() for other in others)])
    return best_type_threshold(labels, scores) if len(set(labels.tolist())) == 2 else None


def _detection(result: RunResult, others: Sequence[RunResult]) -> tuple[Line, list[Line]]:
    if not result.fields:
        return {}, []
    chosen = decision(result, others)
    images: Sequence[ScoredImage] = chosen.images(result) if chosen else result.images
    mm2 = sum(field.mm2 for field in result.fields)
    line: Line = {"threshold": chosen.threshold if chosen else None}
    line |= {"nuclei_level": chosen.nuclei_level} if chosen and chosen.nuclei_level else {}
    line |= {"mitoses": sum(len(i.truth) for i in images), "mm2": mm2}
    units: list[Line] = []
    if chosen is not None:
        counts = pooled(images, chosen.threshold)
        line |= {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, **detection_figures(counts, mm2)}
        units = _field_units(result, images, chosen.threshold)
    if line["mitoses"]:
        line |= {**_own_threshold(result), **threshold_free_figures(images, mm2)}
    return line, units


def _own_threshold(result: RunResult) -> Line:
    """The F1 that a user of this very model has, whose threshold was chosen on sources that it has seen."""
    if result.own_threshold is None:
        return {"own_threshold": None}
    own = Decision(result.own_threshold, result.own_nuclei_level)
    return {"own_threshold": own.threshold, "f1_own_threshold": _f1(result, own)}


def _f1(result: RunResult, chosen: Decision | None) -> float | None:
    return pooled(chosen.images(result), chosen.threshold).f1 if chosen else None


def _field_units(result: RunResult, images: Sequence[ScoredImage], threshold: float) -> list[Line]:
    with_mitoses = {field.case for field in result.fields if field.truth}
    by_case = len(with_mitoses) >= _FEWEST_CASES
    totals: dict[str, Counts] = {}
    for field, image in zip(result.fields, images, strict=True):
        counts = count(image.truth, image.predictions[image.probabilities >= threshold])
        unit = field.case if by_case else field.image
        totals[unit] = totals.get(unit, Counts()) + counts
    kind = "case" if by_case else "image"
    return [
        {"unit": unit, "unit_kind": kind, "tp": c.tp, "fp": c.fp, "fn": c.fn}
        for unit, c in sorted(totals.items())
    ]


def _types(result: RunResult, others: Sequence[RunResult]) -> tuple[Line, list[Line]]:
    labels, scores = result.types.labels(), result.types.scores()
    if not len(labels):
        return {}, []
    threshold = type_threshold(result, others)
    line: Line = {
        "atypical_threshold": threshold,
        "normal": int((~labels).sum()),
        "atypical": int(labels.sum()),
        "auroc": roc_auc(labels, scores),
        "balanced_accuracy_at_half": type_score(labels, scores >= 0.5).balanced_accuracy,
    }
    if line["normal"] and line["atypical"]:
        hindsight = type_score(labels, scores >= best_type_threshold(labels, scores))
        line["balanced_accuracy_hindsight"] = hindsight.balanced_accuracy
    if threshold is None:
        return line, []
    line |= type_figures(type_score(labels, scores >= threshold))
    return line, _type_units(result, threshold)


def _type_units(result: RunResult, threshold: float) -> list[Line]:
    labels, called = result.types.labels(), result.types.scores() >= threshold
    cases = np.array(result.types.cases)
    lines: list[Line] = []
    for case in sorted(set(result.types.cases)):
        score = type_score(labels[cases == case], called[cases == case])
        lines.append(
            {
                "unit": case,
                "unit_kind": "case",
                "normal": score.n_normal,
                "atypical": score.n_atypical,
                "normal_right": score.normal_right,
                "atypical_right": score.atypical_right,
            }
        )
    return lines


def keep_others(new: Sequence[Line], before: Iterable[Line]) -> list[Line]:
    """``new`` and those lines of before whose run is not in it (made elsewhere, or by other options)."""
    made = {_key(line) for line in new}
    return [*new, *(line for line in before if _key(line) not in made)]


def _key(line: Line) -> tuple[str, ...]:
    return tuple(str(line[name]) for name in KEY)


def write_csv(path: Path, lines: Sequence[Mapping[str, Cell]], comment: str) -> None:
    """A CSV file under one comment line; columns in the order in which lines first name them."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    stream = io.StringIO(newline="")
    stream.write(f"# {comment}\n")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _written(value) for name, value in line.items()} for line in lines)
    files.write_bytes(path, stream.getvalue().encode())


def _written(value: Cell) -> Cell:
    return f"{value:.6g}" if isinstance(value, float) else value


def read_csv(path: Path) -> list[Line]:
    """Lines of such a file with numbers as numbers and empty cells None; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(line for line in stream if not line.startswith("#"))
        return [{name: _read(name, value) for name, value in row.items()} for row in rows]


def _read(name: str, value: str) -> Cell:
    if value == "":
        return None
    if name in _WORDS or name.endswith("sha256"):
        return value
    return float(value) if any(mark in value for mark in ".en") else int(value)
