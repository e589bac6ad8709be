"""What a model says of labelled ground: every candidate in the fields, every mitosis of known type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.metrics import ScoredImage
from midog_qupath.inference.adapt import Adapter, look_at
from midog_qupath.inference.detect import Runtime, classify_at, detect
from midog_qupath.inference.forward import CANDIDATE_FLOOR, atypical_given_mitosis
from midog_qupath.learning.ground import AreaGround, Ground
from midog_qupath.learning.labels import Label
from midog_qupath.learning.predict import ArraySlide, cell_side
from midog_qupath.models.bundle import Bundle
from midog_qupath.models.student import MITOSIS
from midog_qupath.progress import SILENT, Progress
from midog_qupath.units import WORKING_MPP


@dataclass(frozen=True)
class ScoredField(ScoredImage):
    """A labelled area. ``nuclei_log_odds``: what its candidates' log-odds count from, 0 for nothing."""

    nuclei_log_odds: float = 0.0


@dataclass(frozen=True)
class TypedScores:
    """Mitoses of known type (N,): whether atypical, and the model's P(atypical | mitosis)."""

    is_atypical: NDArray[np.bool_]
    probabilities: NDArray[np.float64]


def score_fields(
    bundle: Bundle, ground: Ground, progress: Progress, runtime: Runtime | None = None
) -> list[ScoredField]:
    """Candidates and truth of all exhaustively labelled areas; mosaics are none.

    ``bundle`` must not be calibrated: candidates are those of the detection's floor. They count from their
    nuclei however low these are: no threshold is there yet that was chosen elsewhere (``nuclei_level``).
    ``runtime``: with what the areas are searched; None: the reference.
    """
    fields = [area for area in ground.areas if area.exhaustive.any()]
    adapter = used_to(_without_level(bundle), fields, ground, progress)
    scored = []
    with progress.task("choosing the threshold", len(fields), "areas") as advance:
        for number, area in enumerate(fields):
            scored.append(_score(adapter.bundle_for(str(number)), area, runtime))
            advance(1)
    return scored


def _without_level(bundle: Bundle) -> Bundle:
    point = bundle.card.operating_point.model_copy(update={"nuclei_level": 0.0})
    return replace(bundle, card=bundle.card.model_copy(update={"operating_point": point}))


def used_to(bundle: Bundle, areas: Sequence[AreaGround], ground: Ground, progress: Progress) -> Adapter:
    """The model, used to each area under its number in ``areas`` (datasets call their files alike)."""
    looks = {}
    with progress.task("looking at the stain", len(areas), "areas") as advance:
        for number, area in enumerate(areas):
            looks[str(number)] = look_at(bundle, ArraySlide(area.pixels), WORKING_MPP, cell_side(area))
            advance(1)
    return Adapter(bundle, looks, {str(n): ground.domains[area.domain] for n, area in enumerate(areas)})


def _score(bundle: Bundle, area: AreaGround, runtime: Runtime | None) -> ScoredField:
    slide = ArraySlide(area.pixels)
    detections = detect(slide, WORKING_MPP, bundle, minimum_probability=CANDIDATE_FLOOR, runtime=runtime)
    inside = [d for d in detections if area.knows(d.x, d.y)]
    truth = [(o.x, o.y) for o in area.labels if o.pixel_class == MITOSIS and area.knows(o.x, o.y)]
    return ScoredField(
        truth=np.array(truth, dtype=np.float64).reshape(-1, 2) * WORKING_MPP,
        predictions=np.array([(d.x, d.y) for d in inside], dtype=np.float64).reshape(-1, 2) * WORKING_MPP,
        probabilities=np.array([d.mitosis_probability for d in inside], dtype=np.float64),
        nuclei_log_odds=bundle.nuclei_log_odds,
    )


def score_types(bundle: Bundle, ground: Ground) -> TypedScores:
    """The model's opinion of every mitosis of known type; none where it was not taught types."""
    typed = [area for area in ground.areas if bundle.card.has_atypical and _typed(area)]
    adapter = used_to(bundle, typed, ground, SILENT)
    scores = [_types(adapter.bundle_for(str(number)), area) for number, area in enumerate(typed)]
    return TypedScores(
        np.concatenate([np.empty(0, dtype=bool), *(s.is_atypical for s in scores)]),
        np.concatenate([np.empty(0), *(s.probabilities for s in scores)]),
    )


def _typed(area: AreaGround) -> list[Label]:
    return [label for label in area.labels if label.row.role in ("normal", "atypical")]


def _types(bundle: Bundle, area: AreaGround) -> TypedScores:
    typed = _typed(area)
    points = np.array([(label.x, label.y) for label in typed], dtype=np.float64)
    classes = classify_at(ArraySlide(area.pixels), WORKING_MPP, bundle, points, cell_side(area))
    probability: Sequence[float | None] = atypical_given_mitosis(bundle, classes)
    return TypedScores(
        np.array([label.row.role == "atypical" for label in typed]),
        np.array([p or 0.0 for p in probability], dtype=np.float64),
    )
