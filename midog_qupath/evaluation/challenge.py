"""Detections and classes in the challenge's files, against a project or the challenge's own ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midog_qupath.challenge import (
    CLASSES_FILE,
    FIGURES_FILE,
    CropClass,
    FieldTruth,
    FigurePoint,
    StackTruth,
    read_classes,
    read_figures,
    read_truth,
)
from midog_qupath.errors import EvaluationError, FormatError, MidogError
from midog_qupath.evaluation.matching import Points
from midog_qupath.evaluation.measured import ATYPICAL, NORMAL, UNKNOWN, MeasuredImage, TypedFigures
from midog_qupath.evaluation.metrics import ScoredImage, count
from midog_qupath.evaluation.predictors import Prediction, Scores, inside, pixel_size
from midog_qupath.evaluation.result import EvaluationResult
from midog_qupath.evaluation.summary import curve_score, detection_score, types_score
from midog_qupath.evaluation.truth import ImageTruth
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.cases import NO_DOMAIN

#: Microns per millimetre.
_UM = 1000.0


def is_challenge(path: Path) -> bool:
    """Whether a path holds files of the challenge: a ``.json`` file, or a folder of them without GeoJSON."""
    if path.is_file():
        return path.suffix.lower() == ".json"
    return not any(path.glob("*.geojson*")) and any((*path.glob("*.json"), *path.glob("*/*.json")))


def file_of(path: Path, name: str, inner: str) -> Path | None:
    """The file of an image called ``name``: ``path`` itself, ``<stem>.json`` or ``<stem>/<inner>`` in it."""
    if path.is_file():
        return path
    stems = (name, Path(name).stem)
    candidates = [path / f"{stem}.json" for stem in stems] + [path / stem / inner for stem in stems]
    return next((file for file in candidates if file.is_file()), None)


@dataclass(frozen=True)
class ChallengePredictor:
    """Detections of ``mitotic-figures.json`` files. ``path``: as :func:`file_of` takes it."""

    path: Path
    mpp: float | None = None

    def has(self, image: ImageTruth) -> bool:
        """Whether there is a file for an image."""
        return file_of(self.path, image.entry.stem, FIGURES_FILE) is not None

    def predict(self, image: ImageTruth) -> Prediction:
        """Points above threshold as detections, all points as candidates, inside the labelled area."""
        file = file_of(self.path, image.entry.stem, FIGURES_FILE)
        if file is None:
            raise EvaluationError(f"{self.path} has no file for {image.entry.name}.", "Give one, if empty.")
        mpp = pixel_size(image.entry, self.mpp)
        sides = ((side or np.inf) * mpp / _UM for side in (image.entry.width, image.entry.height))
        width, height = sides
        points = read_figures(file, (width + 0.0075, height + 0.0075))
        places, probabilities, above = _arrays(points)
        places = places / mpp
        kept = inside(places, image.area)
        unknown = np.full(len(image.typed), UNKNOWN, dtype=np.int64)
        lowest = float(probabilities.min()) if len(points) else 0.0
        scores = Scores(places[kept], probabilities[kept], lowest, np.full(len(image.typed), np.nan))
        return Prediction(mpp, places[kept & above], unknown, scores)


def _arrays(points: Sequence[FigurePoint]) -> tuple[Points, np.ndarray, np.ndarray]:
    """Positions in microns (N, 2), probabilities (N,), above threshold (N,)."""
    places = np.array([(p.x, p.y) for p in points], dtype=np.float64).reshape(-1, 2) * _UM
    return places, np.array([p.probability for p in points]), np.array([p.above for p in points], np.bool_)


def evaluate_challenge(truth: Path, predictions: Path, progress: Progress = SILENT) -> EvaluationResult:
    """Measure files of the challenge against its ground truth, by its rule and in its file's order.

    ``truth``: as :func:`midog_qupath.challenge.read_truth` reads it; ``predictions``: a file where there is
    one image, else a folder of them (:func:`file_of`). Each image or stack is a case.

    Raises
    ------
    FormatError
        If a file is malformed.
    EvaluationError
        If no image of the truth has a prediction, or a single file is given for several.
    """
    known = read_truth(truth)
    if predictions.is_file() and len(known) > 1:
        raise EvaluationError(
            f"{truth} holds {len(known)} images and {predictions} is one file.",
            "Give a folder with one file an image, called as the image is.",
        )
    if not predictions.exists():
        raise EvaluationError(f"There is no file or folder {predictions}.", "Check the name.")
    images: list[MeasuredImage] = []
    skipped: dict[str, MidogError] = {}
    with progress.task("evaluating", len(known), "images") as advance:
        for one in known:
            try:
                images += _measure(one, predictions)
            except _NoFileError as error:
                skipped[one.name] = error
            advance(1)
    if not images:
        raise EvaluationError(f"{predictions} has a file for no image of {truth}.", "Check the names.")
    return _result(predictions, images, skipped)


class _NoFileError(EvaluationError):
    """An image of the truth has no prediction."""


def _result(
    predictions: Path, images: Sequence[MeasuredImage], skipped: dict[str, MidogError]
) -> EvaluationResult:
    scored = any(image.scored is not None for image in images)
    return EvaluationResult(
        source=f"challenge files {predictions}",
        detection=detection_score(images),
        types=types_score(images),
        undetected=0,
        curves=curve_score(images, _lowest(images)) if scored else None,
        threshold=None,
        in_sample=False,
        left_out_cases=(),
        skipped=skipped,
        images=tuple(images),
    )


def _lowest(images: Sequence[MeasuredImage]) -> float:
    scored = [image.scored for image in images if image.scored is not None]
    return min((float(one.probabilities.min()) for one in scored if len(one.probabilities)), default=0.0)


def _measure(truth: FieldTruth | StackTruth, predictions: Path) -> list[MeasuredImage]:
    inner = FIGURES_FILE if isinstance(truth, FieldTruth) else CLASSES_FILE
    file = file_of(predictions, truth.name, inner)
    if file is None:
        raise _NoFileError(f"{predictions} has no file for {truth.name}.", "Give one, if empty.")
    return [_field(truth, file)] if isinstance(truth, FieldTruth) else _stack(truth, file)


def _field(truth: FieldTruth, file: Path) -> MeasuredImage:
    places, probabilities, above = _arrays(read_figures(file))
    mitoses = np.array(truth.points, dtype=np.float64).reshape(-1, 2) * _UM
    return MeasuredImage(
        name=truth.name,
        case=truth.name,
        domain=truth.domain,
        region_type=truth.region_type,
        mm2=float("nan"),
        counts=count(mitoses, places[above], in_order=True),
        scored=ScoredImage(mitoses, places, probabilities, in_order=True),
        types=TypedFigures(),
    )


def _stack(truth: StackTruth, file: Path) -> list[MeasuredImage]:
    said = read_classes(file)
    if len(said) != len(truth.atypical):
        raise FormatError(
            f"{file} holds {len(said)} classes, {truth.name} {len(truth.atypical)} crops.",
            "Give one entry a crop, in the order of the stack.",
        )
    # Crops of one stack can be of several tumours.
    return [_part(truth, said, domain) for domain in sorted(set(truth.domains))]


def _part(truth: StackTruth, said: Sequence[CropClass], domain: str) -> MeasuredImage:
    mine = [number for number, one in enumerate(truth.domains) if one == domain]
    return MeasuredImage(
        name=truth.name,
        case=truth.name,
        domain=domain,
        region_type=NO_DOMAIN,
        mm2=0.0,
        counts=None,
        scored=None,
        types=TypedFigures(
            cases=(truth.name,) * len(mine),
            is_atypical=np.array([truth.atypical[number] for number in mine], np.bool_),
            called=np.array([ATYPICAL if said[n].atypical else NORMAL for n in mine], np.int64),
            scores=np.array([said[number].confidence for number in mine], np.float64),
        ),
    )
