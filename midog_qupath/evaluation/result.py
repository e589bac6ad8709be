"""What an evaluation measured, in memory and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from midog_qupath.errors import MidogError
from midog_qupath.evaluation.metrics import Counts, TypeScore


@dataclass(frozen=True)
class DetectionScore:
    """Detection figures: pooled and by domain, over ``images`` with ``mm2`` of labelled area in all."""

    pooled: Counts
    per_domain: Mapping[str, Counts]
    images: int
    mm2: float


@dataclass(frozen=True)
class CurveScore:
    """Figures over all thresholds, from candidates with a mitosis probability of at least ``lowest``.

    As the challenge defines them; None where there is nothing to measure. ``atypical_roc_auc``: of the
    probability of being atypical, at every figure of known type.
    """

    lowest: float
    average_precision: float | None
    froc_auc: float | None
    atypical_roc_auc: float | None


@dataclass(frozen=True)
class EvaluationResult:
    """What was measured.

    ``source``: the model or run in words. ``detection`` and ``types`` are None where no ground truth of
    that kind is left; ``undetected`` typed figures had no prediction near and are not in ``types``.
    ``curves``: None for a run, which holds nothing below its threshold.
    ``threshold``: mitosis probability of a detection (None: as the run wrote them). ``in_sample``: cases
    the model was trained or tuned on are included. ``skipped``: image name -> why.
    """

    source: str
    detection: DetectionScore | None
    types: TypeScore | None
    undetected: int
    curves: CurveScore | None
    threshold: float | None
    in_sample: bool
    left_out_cases: tuple[str, ...]
    skipped: Mapping[str, MidogError]

    def as_json(self) -> dict[str, Any]:
        """The result as plain values; see the command's help for the units."""
        return {
            "source": self.source,
            "detection": self._detection_json(),
            "atypical": self._types_json(),
            "curves": asdict(self.curves) if self.curves else None,
            "in_sample": self.in_sample,
            "left_out_cases": list(self.left_out_cases),
            "skipped_images": {name: str(error) for name, error in self.skipped.items()},
        }

    def _detection_json(self) -> dict[str, Any] | None:
        if self.detection is None:
            return None
        return {
            "pooled": counts_json(self.detection.pooled),
            "per_domain": {name: counts_json(c) for name, c in self.detection.per_domain.items()},
            "images": self.detection.images,
            "mm2": self.detection.mm2,
            "threshold": self.threshold,
        }

    def _types_json(self) -> dict[str, Any] | None:
        if self.types is None:
            return None
        return {
            "balanced_accuracy": self.types.balanced_accuracy,
            "sensitivity": self.types.sensitivity,
            "specificity": self.types.specificity,
            "n_normal": self.types.n_normal,
            "n_atypical": self.types.n_atypical,
            "undetected": self.undetected,
        }


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
