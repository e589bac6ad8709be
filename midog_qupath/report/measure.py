"""Right and wrong: what a run or a model says against the ground truth, place by place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.matching import Points, match
from midog_qupath.evaluation.measured import ATYPICAL, UNKNOWN
from midog_qupath.evaluation.metrics import Counts, ScoredImage, hits_of
from midog_qupath.evaluation.predictors import Prediction, Predictor
from midog_qupath.evaluation.result import EvaluationResult
from midog_qupath.evaluation.truth import ImageTruth
from midog_qupath.report.spots import Gallery, Spot, most_certain_first
from midog_qupath.units import MATCH_RADIUS, MicronsPerPixel


@dataclass
class Recorder:
    """Hands predictions on and keeps them, so that what was measured can be shown."""

    predictor: Predictor
    seen: list[tuple[ImageTruth, Prediction]] = field(default_factory=list)

    def predict(self, image: ImageTruth) -> Prediction:
        """Predictions for one image."""
        prediction = self.predictor.predict(image)
        self.seen.append((image, prediction))
        return prediction


@dataclass(frozen=True)
class Measured:
    """Figures over all, counts of each image by its entry's id, and the places behind them.

    ``scored``: what curves are drawn from, in microns; those of a run begin at its threshold, those of a
    model far below (``lowest``).
    """

    result: EvaluationResult
    counts: Mapping[str, Counts]
    scored: tuple[ScoredImage, ...]
    lowest: float
    false_positives: tuple[Spot, ...]
    misses: tuple[Spot, ...]
    confusions: tuple[Spot, ...]
    mpp: Mapping[str, MicronsPerPixel]

    def galleries(self) -> tuple[Gallery, ...]:
        """False positives, misses and confusions of type."""
        return (
            Gallery(
                "false-positives",
                "False positives",
                "Detections in exhaustively labelled ground without a labelled mitosis within 7.5 µm, and "
                "second detections of one mitosis.",
                most_certain_first(self.false_positives),
            ),
            Gallery(
                "misses",
                "Misses",
                "Labelled mitoses without a detection within 7.5 µm. Certainty: of the strongest candidate "
                "there, where one is known.",
                most_certain_first(self.misses),
            ),
            Gallery(
                "confusions",
                "Normal and atypical confused",
                "Mitoses of known type that were called the other type.",
                most_certain_first(self.confusions),
            ),
        )


@dataclass(frozen=True)
class _Candidates:
    """Places (M, 2) in slide pixels, their probabilities (M,) and, of a run, classes (M,)."""

    points: Points
    probabilities: NDArray[np.float64]
    mpp: float
    classes: tuple[str, ...] = ()

    def nearest(self, at: NDArray[np.float64]) -> float | None:
        """Probability of the nearest within 7.5 µm."""
        distance = np.hypot(*(self.points - at).T) * self.mpp
        if not len(distance) or distance.min() > MATCH_RADIUS:
            return None
        return _known(float(self.probabilities[distance.argmin()]))

    def class_at(self, at: NDArray[np.float64]) -> str:
        """What the detection at a place is called."""
        return self.classes[int(np.hypot(*(self.points - at).T).argmin())] if self.classes else "Detection"

    def strongest(self, at: NDArray[np.float64]) -> float | None:
        """Highest probability within 7.5 µm."""
        near = self.probabilities[np.hypot(*(self.points - at).T) * self.mpp <= MATCH_RADIUS]
        return _known(float(near.max())) if len(near) else None


def _known(probability: float) -> float | None:
    return None if np.isnan(probability) else probability


def measured_places(
    result: EvaluationResult,
    seen: Sequence[tuple[ImageTruth, Prediction]],
    run: Mapping[str, Sequence[Spot]],
) -> Measured:
    """Sort the predictions behind a result into right and wrong.

    Parameters
    ----------
    result
        The figures.
    seen
        Images and their predictions; those without an exhaustively labelled area give confusions only.
    run
        Detections by the id of the image, for predictions that do not hold their probabilities.
    """
    counts: dict[str, Counts] = {}
    scored: list[ScoredImage] = []
    wrong: list[Spot] = []
    missed: list[Spot] = []
    confused: list[Spot] = []
    for image, prediction in seen:
        candidates = _candidates(prediction, run.get(image.entry.entry_id, ()))
        confused += _confused(image, prediction, candidates)
        if image.area is None:
            continue
        truth, points = image.mitoses * prediction.mpp, prediction.points * prediction.mpp
        matching = match(truth, points)
        hits, extra = len(matching.hits), matching.false_positives
        counts[image.entry.entry_id] = Counts(hits, len(extra), len(matching.missed))
        scored.append(_scored(image, prediction, candidates))
        for at in prediction.points[list(extra)]:
            wrong.append(_spot(image, at, candidates.class_at(at), candidates.nearest(at)))
        for at in image.mitoses[list(matching.missed)]:
            missed.append(_spot(image, at, "Missed mitosis", candidates.strongest(at)))
    lowest = [p.scores.lowest for _, p in seen if p.scores is not None]
    return Measured(
        result=result,
        counts=counts,
        scored=tuple(scored),
        lowest=max(lowest, default=result.threshold or 0.0),
        false_positives=tuple(wrong),
        misses=tuple(missed),
        confusions=tuple(confused),
        mpp={image.entry.entry_id: MicronsPerPixel(prediction.mpp) for image, prediction in seen},
    )


def _candidates(prediction: Prediction, run: Sequence[Spot]) -> _Candidates:
    if prediction.scores is not None:
        return _Candidates(prediction.scores.points, prediction.scores.probabilities, prediction.mpp)
    points = np.array([(spot.x, spot.y) for spot in run], dtype=np.float64).reshape(-1, 2)
    said = [np.nan if spot.certainty is None else spot.certainty for spot in run]
    classes = tuple(spot.label for spot in run)
    return _Candidates(points, np.array(said, dtype=np.float64), prediction.mpp, classes)


def _scored(image: ImageTruth, prediction: Prediction, candidates: _Candidates) -> ScoredImage:
    points, probabilities = candidates.points, candidates.probabilities
    if prediction.scores is None:
        points = prediction.points
        # A detection of which nobody said how certain it is counts as certain.
        said = [candidates.nearest(at) for at in points]
        probabilities = np.array([1.0 if p is None else p for p in said], dtype=np.float64)
    return ScoredImage(image.mitoses * prediction.mpp, points * prediction.mpp, probabilities)


def _confused(image: ImageTruth, prediction: Prediction, candidates: _Candidates) -> list[Spot]:
    found: list[Spot] = []
    for at, is_atypical, called in zip(image.typed, image.is_atypical, prediction.called, strict=True):
        if called == UNKNOWN or (called == ATYPICAL) == is_atypical:
            continue
        label = "Atypical, called normal" if is_atypical else "Normal, called atypical"
        found.append(_spot(image, at, label, candidates.nearest(at)))
    return found


def _spot(image: ImageTruth, at: NDArray[np.float64], label: str, certainty: float | None) -> Spot:
    return Spot(image.entry.entry_id, float(at[0]), float(at[1]), label, certainty)


@dataclass(frozen=True)
class ReliabilityPoint:
    """Predictions of about one probability: its mean, the share that are mitoses, and how many."""

    predicted: float
    observed: float
    n: int


def reliability(images: Sequence[ScoredImage], bins: int = 10) -> tuple[ReliabilityPoint, ...]:
    """Reliability curve of mitosis probabilities, ``bins`` of equal width over 0..1, empty ones left out.

    A prediction counts as a mitosis where it brings a hit at the threshold at which it joins.
    """
    probabilities = np.concatenate([np.empty(0), *(image.probabilities for image in images)])
    hits = np.concatenate([np.empty(0, dtype=bool), *(hits_of(image) for image in images)])
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    chosen = [index == number for number in range(bins) if (index == number).any()]
    return tuple(
        ReliabilityPoint(float(probabilities[of].mean()), float(hits[of].mean()), int(of.sum()))
        for of in chosen
    )
