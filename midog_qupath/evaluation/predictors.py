"""What is measured: a model run on the images now, or the detections that a run wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import MidogError
from midog_qupath.evaluation.matching import Points
from midog_qupath.evaluation.measured import ATYPICAL, NORMAL, UNKNOWN
from midog_qupath.evaluation.truth import ImageTruth
from midog_qupath.inference.adapt import Adapter, Look, look_at
from midog_qupath.inference.detect import classify_at, detect
from midog_qupath.inference.forward import CANDIDATE_FLOOR, atypical_given_mitosis
from midog_qupath.models.bundle import Bundle
from midog_qupath.progress import Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.geojson import read_features
from midog_qupath.project.model import ImageEntry, PathObject
from midog_qupath.project.shapes import centres
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.units import MATCH_RADIUS


@dataclass(frozen=True)
class Scores:
    """What figures over all thresholds need.

    ``points`` (M, 2) x, y in slide pixels of the candidates inside the labelled area, ``probabilities``
    (M,) of a mitosis, at least ``lowest``. ``atypical``: (N,) probability for each typed figure of the
    ground truth, NaN unknown.
    """

    points: Points
    probabilities: NDArray[np.float64]
    lowest: float
    atypical: NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Predictions for one image.

    ``mpp``: microns per slide pixel. ``points``: (M, 2) x, y in slide pixels of the detections inside the
    labelled area. ``called``: (N,) for each typed figure of the ground truth -1 unknown, 0 normal,
    1 atypical. ``scores``: None where only what lies above a threshold is known.
    """

    mpp: float
    points: Points
    called: NDArray[np.int64]
    scores: Scores | None = None


class Predictor(Protocol):
    """Something whose predictions can be measured; raises MidogError for an image it cannot do."""

    def predict(self, image: ImageTruth) -> Prediction:
        """Predictions for one image."""
        ...


@dataclass(frozen=True)
class ModelPredictor:
    """Runs a model, as used to each image under its entry's id.

    ``threshold``: mitosis probability, ``mpp``: for images whose pixel size is unknown.
    """

    adapter: Adapter
    threshold: float
    mpp: float | None = None
    unreadable: Mapping[str, MidogError] = field(default_factory=dict)

    @classmethod
    def used_to(
        cls,
        bundle: Bundle,
        images: Sequence[ImageTruth],
        threshold: float,
        mpp: float | None,
        progress: Progress,
    ) -> Self:
        """Get a model used to the images that are measured; those that cannot be read fail in ``predict``."""
        looks: dict[str, Look] = {}
        unreadable: dict[str, MidogError] = {}
        with progress.task("looking at the stain", len(images), "images") as advance:
            for image in images:
                try:
                    with open_entry(image.entry) as slide:
                        pixel = resolve_mpp(image.entry, slide, mpp)
                        looks[image.entry.entry_id] = look_at(bundle, slide, pixel.mpp, image.cell_px)
                except MidogError as error:
                    unreadable[image.entry.entry_id] = error
                advance(1)
        domains = {image.entry.entry_id: image.domain for image in images}
        return cls(Adapter(bundle, looks, domains), threshold, mpp, unreadable)

    def predict(self, image: ImageTruth) -> Prediction:
        """Candidates and detections in the labelled area; the classifier's answer at every typed figure."""
        if image.entry.entry_id in self.unreadable:
            raise self.unreadable[image.entry.entry_id]
        with open_entry(image.entry) as slide:
            mpp = resolve_mpp(image.entry, slide, self.mpp).mpp
            bundle = self.adapter.bundle_for(image.entry.entry_id)
            lowest = min(self.threshold, bundle.calibrated_mitosis(CANDIDATE_FLOOR))
            found = []
            if image.area is not None:
                found = detect(
                    slide, mpp, bundle, image.area, minimum_probability=lowest, cell_px=image.cell_px
                )
            classes = classify_at(slide, mpp, bundle, image.typed, image.cell_px)
        atypical = atypical_given_mitosis(bundle, classes)
        limit = bundle.card.atypical_threshold
        called = [UNKNOWN if p is None else ATYPICAL if p >= limit else NORMAL for p in atypical]
        points = _points([(d.x, d.y) for d in found])
        probabilities = np.array([d.mitosis_probability for d in found], dtype=np.float64)
        known = np.array([np.nan if p is None else p for p in atypical], dtype=np.float64)
        scores = Scores(points, probabilities, lowest, known)
        return Prediction(mpp, points[probabilities >= self.threshold], np.array(called, np.int64), scores)


@dataclass(frozen=True)
class RunPredictor:
    """Detections in ``<stem>.geojson`` files of a folder. ``threshold``: leave out less probable ones."""

    folder: Path
    class_map: ClassMap
    threshold: float | None = None
    mpp: float | None = None

    def has(self, image: ImageTruth) -> bool:
        """Whether there is a file for an image."""
        return (self.folder / f"{image.entry.stem}.geojson").is_file()

    def predict(self, image: ImageTruth) -> Prediction:
        """Mitoses in the file that lie in the labelled area; types of those nearest to typed figures."""
        objects = read_features(self.folder / f"{image.entry.stem}.geojson")
        figures = [thing for thing in objects if self._counts(thing)]
        mpp = pixel_size(image.entry, self.mpp)
        points = _points(centres(figures))
        roles = [self.class_map.role(thing.class_name) for thing in figures]
        types = [ATYPICAL if r == "atypical" else NORMAL if r == "normal" else UNKNOWN for r in roles]
        called = nearest_types(image.typed * mpp, points * mpp, np.array(types, dtype=np.int64))
        return Prediction(mpp, points[inside(points, image.area)], called)

    def _counts(self, thing: PathObject) -> bool:
        if thing.roi is None or self.class_map.role(thing.class_name) not in (
            "mitosis",
            "normal",
            "atypical",
        ):
            return False
        return self.threshold is None or thing.measurements.get("Mitosis probability", 1.0) >= self.threshold


def nearest_types(truth: Points, points: Points, types: NDArray[np.int64]) -> NDArray[np.int64]:
    """Type of the nearest of ``points`` (M, 2) within 7.5 um of each of ``truth`` (N, 2), else unknown.

    Both in microns.
    """
    called = np.full(len(truth), UNKNOWN, dtype=np.int64)
    for index, position in enumerate(truth if len(points) else ()):
        distance = np.hypot(*(points - position).T)
        nearest = int(distance.argmin())
        if distance[nearest] <= MATCH_RADIUS:
            called[index] = types[nearest]
    return called


def pixel_size(entry: ImageEntry, option: float | None) -> float:
    """Microns per slide pixel, from the project where it knows them, else from the file or the ``option``."""
    if entry.mpp is not None:
        return entry.mpp
    with open_entry(entry) as slide:
        return resolve_mpp(entry, slide, option, force=True).mpp


def inside(points: Points, area: BaseGeometry | None) -> NDArray[np.bool_]:
    """Which of (N, 2) points lie in an area, none where there is no area."""
    if area is None:
        return np.zeros(len(points), dtype=np.bool_)
    shapely.prepare(area)
    return np.asarray(shapely.intersects_xy(area, points[:, 0], points[:, 1]), dtype=np.bool_)


def _points(pairs: Sequence[tuple[float, float]]) -> Points:
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)
