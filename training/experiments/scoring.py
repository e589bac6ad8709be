"""What a trained model says of the test cases: every candidate in the fields, every typed mitosis.

All probabilities are uncalibrated ones, so that a threshold chosen on one model's serves another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from midog_qupath.dataset.format import Split
from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import DatasetError
from midog_qupath.evaluation.matching import Points
from midog_qupath.learning import scoring
from midog_qupath.learning.ground import AreaGround, Ground, gather
from midog_qupath.learning.labels import Label
from midog_qupath.models.bundle import Bundle
from midog_qupath.progress import Progress
from midog_qupath.units import WORKING_MPP
from training.experiments.records import FieldScore, Pairs, TypeScores

#: Atypical probability of typed labels of one area.
Opinion = Callable[[AreaGround, Sequence[Label]], Sequence[float]]


def ground_of(dataset: Dataset, split: Split) -> Ground | None:
    """Ground of the cases of a split, None without any."""
    try:
        return gather([dataset], lambda row: row.split == split, soft_labels=False)
    except DatasetError:
        return None


def score_fields(bundle: Bundle, ground: Ground, progress: Progress) -> tuple[FieldScore, ...]:
    """Candidates and truth of all exhaustively labelled areas."""
    areas = [area for area in ground.areas if area.exhaustive.any()]
    scored = scoring.score_fields(bundle.uncalibrated(), ground, progress)
    return tuple(_field(area, image) for area, image in zip(areas, scored, strict=True))


def _field(area: AreaGround, image: scoring.ScoredField) -> FieldScore:
    return FieldScore(
        image=area.image.name,
        case=area.image.case,
        domain=area.image.domain,
        mm2=float(area.exhaustive.sum()) * (WORKING_MPP / 1000) ** 2,
        truth=_pairs(image.truth),
        predictions=_pairs(image.predictions),
        probabilities=tuple(float(p) for p in image.probabilities),
        nuclei_log_odds=image.nuclei_log_odds,
    )


def _pairs(points: Points) -> Pairs:
    return tuple((float(x), float(y)) for x, y in points)


def student_types(bundle: Bundle, ground: Ground) -> TypeScores:
    """A model's opinion of every mitosis of known type; none where it was not taught types."""
    if not bundle.card.has_atypical:
        return TypeScores()
    scores = scoring.score_types(bundle.uncalibrated(), ground)
    typed = [label for area in ground.areas for label in typed_labels(area)]
    return _types(typed, [float(p) for p in scores.probabilities])


def opinion_types(opinion: Opinion, ground: Ground) -> TypeScores:
    """Another model's opinion of every mitosis of known type."""
    labels = [(area, typed_labels(area)) for area in ground.areas]
    probabilities = [p for area, typed in labels for p in opinion(area, typed)]
    return _types([label for _, typed in labels for label in typed], probabilities)


def typed_labels(area: AreaGround) -> list[Label]:
    """The mitoses of an area whose type is known, in order."""
    return [label for label in area.labels if label.row.role in ("normal", "atypical")]


def _types(labels: Sequence[Label], probabilities: Sequence[float]) -> TypeScores:
    assert len(labels) == len(probabilities)
    return TypeScores(
        images=tuple(label.row.image for label in labels),
        cases=tuple(label.row.case for label in labels),
        domains=tuple(label.row.domain for label in labels),
        atypical=tuple(label.row.role == "atypical" for label in labels),
        probabilities=tuple(probabilities),
    )
