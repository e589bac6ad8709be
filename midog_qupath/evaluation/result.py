"""What an evaluation measured, in memory and as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from midog_qupath.errors import MidogError
from midog_qupath.evaluation.bootstrap import Interval
from midog_qupath.evaluation.figures import Figures
from midog_qupath.evaluation.measured import MeasuredImage
from midog_qupath.evaluation.metrics import Counts, TypeScore


@dataclass(frozen=True)
class DetectionRow:
    """Counts of some images, and what follows from them with intervals over ``cases`` cases."""

    counts: Counts
    figures: Figures
    cases: int


@dataclass(frozen=True)
class DetectionScore:
    """Detection figures pooled, by domain and by region type; ``images`` with ``mm2`` of labelled area.

    ``mm2`` is NaN where nobody says it (the challenge's ground truth).
    """

    pooled: DetectionRow
    per_domain: Mapping[str, DetectionRow]
    per_region_type: Mapping[str, DetectionRow]
    images: int
    mm2: float


@dataclass(frozen=True)
class CurveScore:
    """Figures over all thresholds, from candidates with a mitosis probability of at least ``lowest``.

    ``average_precision`` and ``froc_auc`` as the challenge defines them; None where there is nothing to
    measure. ``atypical_roc_auc``: of the probability of being atypical, at every figure of known type.
    """

    lowest: float
    pooled: Figures
    per_domain: Mapping[str, Figures]
    per_region_type: Mapping[str, Figures]
    atypical_roc_auc: Interval | None


@dataclass(frozen=True)
class TypeRow:
    """Normal against atypical of some images, with intervals over ``cases`` cases."""

    counts: TypeScore
    figures: Figures
    cases: int


@dataclass(frozen=True)
class TypesScore:
    """Normal against atypical: pooled, by domain, by region type; ``undetected`` had no prediction near."""

    pooled: TypeRow
    per_domain: Mapping[str, TypeRow]
    per_region_type: Mapping[str, TypeRow]
    undetected: int


@dataclass(frozen=True)
class Comparison:
    """``new`` minus ``old`` with 95 % intervals, two systems on the same images, cases drawn alike.

    ``detection``, ``types``, ``curves``: by figure, empty where one of both did not measure it;
    ``per_domain``, ``per_region_type``: differences of F1.
    """

    images: int
    cases: int
    detection: Figures
    per_domain: Figures
    per_region_type: Figures
    types: Figures
    curves: Figures


@dataclass(frozen=True)
class EvaluationResult:
    """What was measured.

    ``source``: the model or run in words. ``detection`` and ``types`` are None where no ground truth of
    that kind is left; ``undetected`` typed figures had no prediction near and are not in ``types``.
    ``curves``: None for a run, which holds nothing below its threshold.
    ``threshold``: mitosis probability of a detection (None: as the run wrote them). ``in_sample``: cases
    the model was trained or tuned on are included. ``skipped``: image name -> why. ``images``: what the
    figures come from.
    """

    source: str
    detection: DetectionScore | None
    types: TypesScore | None
    undetected: int
    curves: CurveScore | None
    threshold: float | None
    in_sample: bool
    left_out_cases: tuple[str, ...]
    skipped: Mapping[str, MidogError]
    images: tuple[MeasuredImage, ...]

    def as_json(self) -> dict[str, Any]:
        """The result as plain values; see the command's help for the units."""
        return {
            "source": self.source,
            "detection": self._detection_json(),
            "atypical": self._types_json(),
            "curves": self._curves_json(),
            "in_sample": self.in_sample,
            "left_out_cases": list(self.left_out_cases),
            "skipped_images": {name: str(error) for name, error in self.skipped.items()},
        }

    def _detection_json(self) -> dict[str, Any] | None:
        if self.detection is None:
            return None
        return {
            "pooled": _detection_row(self.detection.pooled),
            "per_domain": {name: _detection_row(r) for name, r in self.detection.per_domain.items()},
            "per_region_type": {
                name: _detection_row(r) for name, r in self.detection.per_region_type.items()
            },
            "images": self.detection.images,
            "mm2": None if math.isnan(self.detection.mm2) else self.detection.mm2,
            "threshold": self.threshold,
        }

    def _types_json(self) -> dict[str, Any] | None:
        if self.types is None:
            return None
        return {
            **_type_row(self.types.pooled),
            "undetected": self.undetected,
            "per_domain": {name: _type_row(r) for name, r in self.types.per_domain.items()},
            "per_region_type": {name: _type_row(r) for name, r in self.types.per_region_type.items()},
        }

    def _curves_json(self) -> dict[str, Any] | None:
        if self.curves is None:
            return None
        pooled = {**self.curves.pooled, "atypical_roc_auc": self.curves.atypical_roc_auc}
        return {
            "lowest": self.curves.lowest,
            **figures_json(pooled),
            "per_domain": {name: figures_json(f) for name, f in self.curves.per_domain.items()},
            "per_region_type": {name: figures_json(f) for name, f in self.curves.per_region_type.items()},
        }


def comparison_json(new: EvaluationResult, old: EvaluationResult, compared: Comparison) -> dict[str, Any]:
    """Two results on the same images and their differences (``detections`` minus ``against``)."""
    groups = {
        "per_domain": figures_json(compared.per_domain),
        "per_region_type": figures_json(compared.per_region_type),
    }
    return {
        "detections": new.as_json(),
        "against": old.as_json(),
        "difference": {
            "images": compared.images,
            "cases": compared.cases,
            "detection": {**figures_json(compared.detection), "f1_by": groups},
            "atypical": figures_json(compared.types),
            "curves": figures_json(compared.curves),
        },
    }


def figures_json(figures: Figures) -> dict[str, Any]:
    """Values by name, and under ``ci`` their 95 % intervals [low, high]; None where one does not exist."""
    values: dict[str, Any] = {name: one.value if one else None for name, one in figures.items()}
    return {**values, "ci": {name: _ends(one) for name, one in figures.items()}}


def _ends(figure: Interval | None) -> list[float] | None:
    if figure is None or math.isnan(figure.low):
        return None
    return [figure.low, figure.high]


def _detection_row(row: DetectionRow) -> dict[str, Any]:
    return {**counts_json(row.counts), "cases": row.cases, "ci": figures_json(row.figures)["ci"]}


def _type_row(row: TypeRow) -> dict[str, Any]:
    counts = {"n_normal": row.counts.n_normal, "n_atypical": row.counts.n_atypical, "cases": row.cases}
    # A run says no probability of every figure, and then there is no area under the curve.
    return {**figures_json({"roc_auc": None, **row.figures}), **counts}


def counts_json(counts: Counts) -> dict[str, float | None]:
    """Counts and what follows from them; recall and F1 are None where there is no figure to find."""
    figures = counts.tp + counts.fn
    return {
        "tp": counts.tp,
        "fp": counts.fp,
        "fn": counts.fn,
        "precision": counts.precision if counts.tp + counts.fp else None,
        "recall": counts.recall if figures else None,
        "f1": counts.f1 if figures else None,
    }
