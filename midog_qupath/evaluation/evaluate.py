"""A model or a run against the ground truth in a project."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from midog_qupath.errors import EvaluationError, MidogError
from midog_qupath.evaluation.curves import average_precision, froc_auc, roc_auc
from midog_qupath.evaluation.metrics import Counts, ScoredImage, TypeScore, count, sweep, type_score
from midog_qupath.evaluation.predictors import UNKNOWN, Prediction, Predictor, Scores
from midog_qupath.evaluation.result import CurveScore, DetectionScore, EvaluationResult
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
        curves=_curves(done),
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


def _curves(done: list[tuple[ImageTruth, Prediction]]) -> CurveScore | None:
    scored = [(image, p.mpp, p.scores) for image, p in done if p.scores is not None]
    if not scored:
        return None
    images = [_scored(image, mpp, s) for image, mpp, s in scored if image.area is not None]
    is_atypical = np.concatenate([image.is_atypical for image, _, _ in scored])
    atypical = np.concatenate([s.atypical for _, _, s in scored])
    known = ~np.isnan(atypical)
    return CurveScore(
        lowest=max(s.lowest for _, _, s in scored),
        average_precision=average_precision(images),
        froc_auc=froc_auc(sweep(images)),
        atypical_roc_auc=roc_auc(is_atypical[known], atypical[known]),
    )


def _scored(image: ImageTruth, mpp: float, scores: Scores) -> ScoredImage:
    return ScoredImage(image.mitoses * mpp, scores.points * mpp, scores.probabilities)
