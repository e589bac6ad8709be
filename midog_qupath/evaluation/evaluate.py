"""A model or a run against the ground truth in a project."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from midog_qupath.errors import EvaluationError, MidogError
from midog_qupath.evaluation.metrics import Counts, TypeScore, count, type_score
from midog_qupath.evaluation.predictors import UNKNOWN, Prediction, Predictor
from midog_qupath.evaluation.truth import ImageTruth, Truth
from midog_qupath.progress import Progress


@dataclass(frozen=True)
class DetectionScore:
    """Detection figures: pooled and by domain, over ``images`` with ``mm2`` of labelled area in all."""

    pooled: Counts
    per_domain: Mapping[str, Counts]
    images: int
    mm2: float


@dataclass(frozen=True)
class EvaluationResult:
    """What was measured.

    ``source``: the model or run in words. ``detection`` and ``types`` are None where no ground truth of
    that kind is left; ``undetected`` typed figures had no prediction near and are not in ``types``.
    ``threshold``: mitosis probability of a detection (None: as the run wrote them). ``in_sample``: cases
    the model was trained or tuned on are included. ``skipped``: image name -> why.
    """

    source: str
    detection: DetectionScore | None
    types: TypeScore | None
    undetected: int
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


def evaluate(
    truth: Truth,
    predictor: Predictor,
    *,
    source: str,
    threshold: float | None,
    in_sample: bool,
    progress: Progress,
) -> EvaluationResult:
    """Measure ``predictor`` on the images of ``truth``.

    An image it cannot do is left out of every figure and reported.

    Raises
    ------
    EvaluationError
        If there is no ground truth, the model has seen all of it, or none of the images could be done.
    """
    _require_truth(truth)
    done: list[tuple[ImageTruth, Prediction]] = []
    skipped: dict[str, MidogError] = {}
    with progress.task("evaluating", len(truth.images), "images") as advance:
        for image in truth.images:
            try:
                done.append((image, predictor.predict(image)))
            except MidogError as error:
                skipped[image.entry.name] = error
            advance(1)
    if not done:
        first = next(iter(skipped.values()))
        raise EvaluationError(f"None of {len(skipped)} images could be evaluated: {first.what}", first.remedy)
    detection, (types, undetected) = _detection(done), _types(done)
    if detection is None and types is None:
        raise EvaluationError(
            "Only normal and atypical figures are labelled, and nothing tells them apart here.",
            "Draw a Region* around ground in which every mitosis is labelled, or train on both kinds.",
        )
    return EvaluationResult(
        source=source,
        detection=detection,
        types=types,
        undetected=undetected,
        threshold=threshold,
        in_sample=in_sample,
        left_out_cases=truth.left_out,
        skipped=skipped,
    )


def _require_truth(truth: Truth) -> None:
    if not truth.labelled:
        raise EvaluationError(
            "There is no ground truth: no mitosis and no exhaustively labelled area.",
            "Label mitoses in QuPath (see `midog-qupath info`), or give --ground-truth.",
        )
    if any(len(image.mitoses) or len(image.typed) for image in truth.images):
        return
    if truth.left_out:
        raise EvaluationError(
            f"The model was trained or tuned on every labelled case ({len(truth.left_out)}).",
            "Label more cases, or give --all for in-sample figures.",
        )
    raise EvaluationError(
        "There is no ground truth to measure: no mitosis inside a labelled area, none of known type.",
        "Draw a Region* around ground in which every mitosis is labelled.",
    )


def _detection(done: list[tuple[ImageTruth, Prediction]]) -> DetectionScore | None:
    per_domain: dict[str, Counts] = defaultdict(Counts)
    images, mm2 = 0, 0.0
    for image, prediction in done:
        if image.area is None:
            continue
        mpp = prediction.mpp
        per_domain[image.domain] += count(image.mitoses * mpp, prediction.points * mpp)
        images += 1
        mm2 += image.area.area * (mpp / 1000) ** 2
    if not images:
        return None
    pooled = sum(per_domain.values(), Counts())
    return DetectionScore(pooled, dict(sorted(per_domain.items())), images, mm2)


def _types(done: list[tuple[ImageTruth, Prediction]]) -> tuple[TypeScore | None, int]:
    is_atypical = np.concatenate([image.is_atypical for image, _ in done])
    called = np.concatenate([prediction.called for _, prediction in done])
    known = called != UNKNOWN
    if not known.any():
        return None, int((~known).sum())
    return type_score(is_atypical[known], called[known] == 1), int((~known).sum())
