"""All figures of a set of images with their intervals by case, and what two systems differ in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from midog_qupath.evaluation.bootstrap import (
    Interval,
    Statistic,
    balanced_accuracy_statistic,
    bootstrap,
    case_index,
    f1_statistic,
    paired_bootstrap,
    roc_auc_statistic,
)
from midog_qupath.evaluation.measured import (
    UNKNOWN,
    Measured,
    MeasuredImage,
    TypedFigures,
    all_types,
    with_detection,
)
from midog_qupath.evaluation.metrics import Counts, TypeScore, type_score
from midog_qupath.evaluation.resampled import (
    ScoredCases,
    average_precision_statistic,
    froc_statistic,
    precision_statistic,
    recall_statistic,
    sensitivity_statistic,
    specificity_statistic,
)

#: Figures by name; None where one does not exist on these images.
Figures = Mapping[str, Interval | None]


@dataclass(frozen=True)
class Statistics:
    """Figures as functions of how often each of ``cases`` was drawn."""

    cases: tuple[str, ...]
    by_name: Mapping[str, Statistic]

    def figures(self) -> dict[str, Interval | None]:
        """Each with its interval; with one case it is without: low and high are NaN."""
        return {name: self.figure(name) for name in self.by_name}

    def figure(self, name: str) -> Interval | None:
        """One of them; None where it does not exist."""
        return _figure(self.by_name[name], len(self.cases)) if name in self.by_name else None


def _figure(statistic: Statistic, cases: int) -> Interval | None:
    if cases >= 2:
        return bootstrap(statistic, cases)
    value = float(statistic(np.ones((1, cases)))[0]) if cases else np.nan
    return None if np.isnan(value) else Interval(value, np.nan, np.nan)


def detection_statistics(images: Measured) -> Statistics:
    """Precision, recall and F1 over the images in which detections are measured."""
    measured = with_detection(images)
    names, counts = _counts_by_case(measured)
    table = {
        "precision": precision_statistic(counts),
        "recall": recall_statistic(counts),
        "f1": f1_statistic(counts),
    }
    return Statistics(names, table)


def _counts_by_case(images: Iterable[MeasuredImage]) -> tuple[tuple[str, ...], list[Counts]]:
    by_case: dict[str, Counts] = {}
    for image in images:
        by_case[image.case] = by_case.get(image.case, Counts()) + (image.counts or Counts())
    names = tuple(sorted(by_case))
    return names, [by_case[name] for name in names]


def curve_statistics(images: Measured, scored: ScoredCases) -> Statistics:
    """Average precision and FROC-AUC; ``scored`` holds the scored images among ``images``, in order."""
    names, _ = case_index([image.case for image in images if image.scored is not None])
    table = {
        "average_precision": average_precision_statistic(scored),
        "froc_auc": froc_statistic(scored),
    }
    return Statistics(names, table)


def type_statistics(images: Measured) -> Statistics:
    """Balanced accuracy, sensitivity and specificity over figures whose type was called."""
    types = all_types(images)
    names, scores = _types_by_case(types)
    table = {
        "balanced_accuracy": balanced_accuracy_statistic(scores),
        "sensitivity": sensitivity_statistic(scores),
        "specificity": specificity_statistic(scores),
    }
    known = ~np.isnan(types.scores)
    if known.any():
        index = {name: number for number, name in enumerate(names)}
        case = np.array([index[c] for c in types.cases], dtype=np.int64)
        # The last case may have no score: the statistic counts its cases by the highest index.
        table["roc_auc"] = _over_all(
            roc_auc_statistic(case[known], types.is_atypical[known], types.scores[known]),
            int(case[known].max()) + 1,
        )
    return Statistics(names, table)


def _over_all(statistic: Statistic, first: int) -> Statistic:
    return lambda weights: statistic(weights[:, :first])


def _types_by_case(types: TypedFigures) -> tuple[tuple[str, ...], list[TypeScore]]:
    names, index = case_index(types.cases)
    known = types.called != UNKNOWN
    scores = []
    for number in range(len(names)):
        mine = known & (index == number)
        scores.append(type_score(types.is_atypical[mine], types.called[mine] == 1))
    return names, scores


def differences(new: Statistics, old: Statistics) -> dict[str, Interval | None]:
    """``new`` minus ``old`` of every figure that both have, cases drawn alike.

    Both must have the same cases; with fewer than two there is no interval, and nothing is said.
    """
    if new.cases != old.cases or len(new.cases) < 2:
        return {}
    return {
        name: paired_bootstrap(new.by_name[name], old.by_name[name], len(new.cases))
        for name in new.by_name
        if name in old.by_name
    }
