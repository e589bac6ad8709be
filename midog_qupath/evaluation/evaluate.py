"""A model or a run against the ground truth in a project."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midog_qupath.errors import EvaluationError, MidogError, none_worked
from midog_qupath.evaluation.matching import Points
from midog_qupath.evaluation.measured import UNKNOWN, Measured, MeasuredImage, TypedFigures, all_types
from midog_qupath.evaluation.metrics import ScoredImage, count
from midog_qupath.evaluation.predictors import Prediction, Predictor, Scores
from midog_qupath.evaluation.result import CurveScore, EvaluationResult
from midog_qupath.evaluation.summary import curve_score, detection_score, types_score
from midog_qupath.evaluation.truth import ImageTruth, Truth
from midog_qupath.progress import Progress


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
        raise none_worked(EvaluationError, "evaluated", skipped)
    images = tuple(measure(image, prediction) for image, prediction in done)
    detection, types = detection_score(images), types_score(images)
    if detection is None and types is None:
        raise EvaluationError(
            "Only normal and atypical figures are labelled, and nothing tells them apart here.",
            "Draw a Region* around ground in which every mitosis is labelled, or train on both kinds.",
        )
    return EvaluationResult(
        source=source,
        detection=detection,
        types=types,
        undetected=int((all_types(images).called == UNKNOWN).sum()),
        curves=_curves(images, [p.scores.lowest for _, p in done if p.scores is not None]),
        threshold=threshold,
        in_sample=in_sample,
        left_out_cases=truth.left_out,
        skipped=skipped,
        images=images,
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


def measure(image: ImageTruth, prediction: Prediction) -> MeasuredImage:
    """One image with its prediction, as all figures need it."""
    mpp, scores = prediction.mpp, prediction.scores
    mitoses = image.mitoses * mpp
    unknown = np.full(len(image.typed), np.nan)
    return MeasuredImage(
        name=image.entry.name,
        case=image.case,
        domain=image.domain,
        region_type=image.region_type,
        mm2=image.area.area * (mpp / 1000) ** 2 if image.area is not None else 0.0,
        counts=count(mitoses, prediction.points * mpp) if image.area is not None else None,
        scored=_scored(mitoses, mpp, scores) if scores is not None and image.area is not None else None,
        types=TypedFigures(
            image.typed_cases,
            image.is_atypical,
            prediction.called,
            unknown if scores is None else scores.atypical,
        ),
    )


def _scored(mitoses: Points, mpp: float, scores: Scores) -> ScoredImage:
    return ScoredImage(mitoses, scores.points * mpp, scores.probabilities)


def _curves(images: Measured, lowest: Sequence[float]) -> CurveScore | None:
    return curve_score(images, max(lowest)) if lowest else None
