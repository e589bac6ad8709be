"""Figures of one run from its candidates: detection at one and over all thresholds, types likewise."""

from __future__ import annotations

from collections.abc import Sequence

from midog_qupath.evaluation.curves import average_precision, froc, froc_auc
from midog_qupath.evaluation.metrics import (
    Counts,
    ScoredImage,
    TypeScore,
    best_threshold,
    sweep,
)

#: False positives per mm² at which sensitivity is tabulated.
FROC_AT = (1, 2, 4, 8, 16, 32, 64)


def type_figures(score: TypeScore) -> dict[str, float | None]:
    """Balanced accuracy, sensitivity and specificity, atypical the positive class."""
    return {
        "balanced_accuracy": score.balanced_accuracy,
        "sensitivity": score.sensitivity,
        "specificity": score.specificity,
    }


def detection_figures(counts: Counts, mm2: float) -> dict[str, float | None]:
    """F1, precision and recall (None without any mitosis), false positives per mm²."""
    some = counts.tp + counts.fn > 0
    return {
        "f1": counts.f1 if some else None,
        "precision": counts.precision if some else None,
        "recall": counts.recall if some else None,
        "fp_per_mm2": counts.fp / mm2 if mm2 else None,
    }


def threshold_free_figures(images: Sequence[ScoredImage], mm2: float) -> dict[str, float | None]:
    """AP and FROC-AUC as the challenge's (0..1, 0..8), the best F1 in hindsight, and sensitivities.

    Sensitivity at 1, 2, 4, ... false positives per mm² is the highest over all thresholds.
    """
    swept = sweep(images)
    figures = {"ap": average_precision(images), "froc": froc_auc(swept)}
    if len(swept.thresholds):
        figures["hindsight_threshold"], best = best_threshold(images)
        figures["f1_hindsight"] = best.f1
    curve = froc(swept, mm2)
    if curve is not None:
        figures |= {f"sensitivity_at_{fp}_per_mm2": curve.at(fp) for fp in FROC_AT}
    return figures
