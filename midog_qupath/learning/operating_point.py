"""The thresholds of a model, chosen on validation cases it was not trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.metrics import ScoredImage, best_threshold, type_score
from midog_qupath.inference.detect import POSITION_WINDOW, classify_at, detect
from midog_qupath.inference.forward import atypical_given_mitosis
from midog_qupath.learning.ground import AreaGround, Ground
from midog_qupath.learning.predict import ArraySlide, cell_side
from midog_qupath.models.bundle import Bundle, OperatingPoint
from midog_qupath.models.student import MITOSIS
from midog_qupath.progress import Progress
from midog_qupath.units import WORKING_MPP

#: Candidates below this mitosis probability never become detections, whatever the threshold.
_FLOOR = 0.02
#: Fewer labelled objects than this choose nothing: the default threshold stays.
_FEWEST = 4


def choose_operating_point(
    bundle: Bundle, ground: Ground | None, verifier_weight: float, progress: Progress
) -> OperatingPoint:
    """Thresholds with the best pooled F1 and the best balanced accuracy on ``ground``'s cases.

    ``bundle`` must already mix in the classifier by ``verifier_weight``. Where too little is labelled
    to choose on, the default of 0.5 stays and the result says so.
    """
    if ground is None:
        return OperatingPoint(verifier_weight=verifier_weight)
    images = _score_fields(bundle, ground, progress)
    mitoses = sum(len(image.truth) for image in images)
    point = OperatingPoint(verifier_weight=verifier_weight)
    if mitoses >= _FEWEST and any(len(image.predictions) for image in images):
        threshold, counts = best_threshold(images)
        point = OperatingPoint(
            threshold=threshold,
            verifier_weight=verifier_weight,
            chosen_on=f"{mitoses} mitoses of {len(images)} labelled areas of the validation cases, "
            f"F1 there {counts.f1:.3f}",
        )
    atypical = _atypical_threshold(bundle, ground) if bundle.card.has_atypical else 0.5
    return point.model_copy(update={"atypical_threshold": atypical})


def estimate_seconds(bundle: Bundle, ground: Ground | None) -> float:
    """How long :func:`choose_operating_point` will take here, from one pass over a part of its pixels."""
    if ground is None:
        return 0.0
    typed = sum(label.row.role in ("normal", "atypical") for area in ground.areas for label in area.labels)
    work_px = sum(float(area.exhaustive.size) for area in ground.areas if area.exhaustive.any())
    work_px += typed * POSITION_WINDOW**2
    sample = np.ascontiguousarray(ground.areas[0].pixels[:512, :512])
    times = []
    for _ in range(2):  # the first pass also warms up
        began = time.perf_counter()
        detect(ArraySlide(sample), WORKING_MPP, bundle, minimum_probability=1.0)
        times.append(time.perf_counter() - began)
    # Half as much again for candidates, which an untrained network does not have.
    return float(1.5 * min(times) * work_px / (sample.shape[0] * sample.shape[1]))


def _score_fields(bundle: Bundle, ground: Ground, progress: Progress) -> list[ScoredImage]:
    fields = [area for area in ground.areas if area.exhaustive.any()]
    scored = []
    with progress.task("choosing the threshold", len(fields), "areas") as advance:
        for area in fields:
            scored.append(_score(bundle, area))
            advance(1)
    return scored


def _score(bundle: Bundle, area: AreaGround) -> ScoredImage:
    detections = detect(ArraySlide(area.pixels), WORKING_MPP, bundle, minimum_probability=_FLOOR)
    inside = [d for d in detections if area.knows(d.x, d.y)]
    truth = [(o.x, o.y) for o in area.labels if o.pixel_class == MITOSIS and area.knows(o.x, o.y)]
    return ScoredImage(
        truth=np.array(truth, dtype=np.float64).reshape(-1, 2) * WORKING_MPP,
        predictions=np.array([(d.x, d.y) for d in inside], dtype=np.float64).reshape(-1, 2) * WORKING_MPP,
        probabilities=np.array([d.mitosis_probability for d in inside], dtype=np.float64),
    )


def _atypical_threshold(bundle: Bundle, ground: Ground) -> float:
    """The atypical probability with the best balanced accuracy on the typed mitoses; 0.5 if too few."""
    verdicts = [_types(bundle, area) for area in ground.areas]
    labels = np.concatenate([v.is_atypical for v in verdicts])
    probabilities = np.concatenate([v.probability for v in verdicts])
    if min(labels.sum(), (~labels).sum()) < _FEWEST:
        return 0.5
    thresholds = np.linspace(0.05, 0.95, 91)
    scores = [type_score(labels, probabilities >= t).balanced_accuracy or 0.0 for t in thresholds]
    best = np.flatnonzero(np.array(scores) >= max(scores) - 1e-12)
    return float(thresholds[best[(len(best) - 1) // 2]])


@dataclass(frozen=True)
class _Types:
    is_atypical: NDArray[np.bool_]
    probability: NDArray[np.float64]


def _types(bundle: Bundle, area: AreaGround) -> _Types:
    typed = [label for label in area.labels if label.row.role in ("normal", "atypical")]
    if not typed:
        return _Types(np.empty(0, bool), np.empty(0))
    points = np.array([(label.x, label.y) for label in typed], dtype=np.float64)
    classes = classify_at(ArraySlide(area.pixels), WORKING_MPP, bundle, points, cell_side(area))
    probability: Sequence[float | None] = atypical_given_mitosis(bundle, classes)
    return _Types(
        np.array([label.row.role == "atypical" for label in typed]),
        np.array([p or 0.0 for p in probability], dtype=np.float64),
    )
