"""Which objects of an image count as mitotic figures, and whose word stands behind each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from midog_qupath.project.classes import ClassMap, Role
from midog_qupath.project.model import ObjectKind, PathObject, RoiKind
from midog_qupath.project.ours import RUN_MEASUREMENT, Standing
from midog_qupath.project.shapes import Position, centre, near
from midog_qupath.units import SlidePixels

#: A person drew it, a person looked at a detection and left it a mitosis, or nobody has looked yet.
Word = Literal["person", "reviewed", "unreviewed"]
_MITOSES: tuple[Role, ...] = ("mitosis", "normal", "atypical")
_PROBABILITY = "Mitosis probability"


@dataclass(frozen=True)
class Figure:
    """A counted figure at ``x``, ``y`` (slide pixels, centre of the bounding box).

    ``probability`` of a mitosis and ``run`` (number of the run) are known of detections of ours only.
    """

    x: float
    y: float
    word: Word
    role: Role
    probability: float | None = None
    run: int | None = None


def counted_figures(
    objects: Sequence[PathObject],
    standing: Callable[[PathObject], Standing],
    class_map: ClassMap,
    radius: SlidePixels,
    threshold: float = 0.0,
) -> list[Figure]:
    """The figures of an image that count, each once.

    People's mitoses all count. Detections of ours count as reviewed where a person left a mark on them, and
    as unreviewed from a probability of ``threshold`` on; those that a person made something else do not. A
    detection within ``radius`` of a person's figure, or of a counted detection that goes before it (reviewed
    ones, then the most probable), is that figure; one within it of a person's look-alike is rejected.
    """
    drawn = [
        figure
        for thing in objects
        if _drawn(thing, standing)
        for figure in _figures(thing, class_map, "person")
    ]
    rejected = [
        place
        for thing in objects
        if standing(thing) in (Standing.THEIRS, Standing.TOUCHED)
        and class_map.role(thing.class_name) == "non_mitosis"
        for place in _places(thing)
    ]
    found = [figure for thing in objects for figure in _detected(thing, standing, class_map, threshold)]
    found.sort(key=lambda f: (f.word != "reviewed", -(f.probability or 0.0), f.y, f.x))
    places = [(figure.x, figure.y) for figure in found]
    taken = near(places, [(figure.x, figure.y) for figure in drawn], radius)
    wrong = near(places, rejected, radius)
    left = [
        figure
        for figure, known, no in zip(found, taken, wrong, strict=True)
        if not known and not (no and figure.word == "unreviewed")
    ]
    return drawn + _apart(left, radius)


def _drawn(thing: PathObject, standing: Callable[[PathObject], Standing]) -> bool:
    return thing.kind is ObjectKind.ANNOTATION and standing(thing) is Standing.THEIRS


def _detected(
    thing: PathObject, standing: Callable[[PathObject], Standing], class_map: ClassMap, threshold: float
) -> list[Figure]:
    whose = standing(thing)
    if whose is Standing.TOUCHED:
        return _figures(thing, class_map, "reviewed")
    if whose not in (Standing.UNTOUCHED, Standing.UNPROVEN):
        return []
    if thing.measurements.get(_PROBABILITY, 1.0) < threshold:
        return []
    return _figures(thing, class_map, "unreviewed")


def _figures(thing: PathObject, class_map: ClassMap, word: Word) -> list[Figure]:
    role = class_map.role(thing.class_name)
    if role not in _MITOSES:
        return []
    run = thing.measurements.get(RUN_MEASUREMENT) if word != "person" else None
    probability = thing.measurements.get(_PROBABILITY) if word != "person" else None
    number = int(run) if run is not None else None
    return [Figure(x, y, word, role, probability, number) for x, y in _places(thing)]


def _places(thing: PathObject) -> list[Position]:
    """Each point of several, else the centre."""
    if thing.roi is None or thing.roi.geometry.is_empty:
        return []
    if thing.roi.kind is RoiKind.POINTS:
        return [(float(x), float(y)) for x, y in shapely.get_coordinates(thing.roi.geometry)]
    return [centre(thing)]


def _apart(figures: Sequence[Figure], radius: SlidePixels) -> list[Figure]:
    """Those that no earlier one of the list is within ``radius`` of."""
    if not figures:
        return []
    places = positions(figures)
    neighbours = cKDTree(places).query_ball_point(places, radius)
    kept = np.ones(len(figures), dtype=np.bool_)
    for index, others in enumerate(neighbours):
        if kept[index]:
            kept[[other for other in others if other > index]] = False
    return [figure for figure, keep in zip(figures, kept, strict=True) if keep]


def positions(figures: Sequence[Figure]) -> NDArray[np.float64]:
    """(N, 2) x, y of figures in slide pixels."""
    return np.array([(figure.x, figure.y) for figure in figures], dtype=np.float64).reshape(-1, 2)


def inside(figures: Sequence[Figure], area: BaseGeometry) -> list[Figure]:
    """The figures whose centre lies in an area (slide pixels)."""
    if not figures:
        return []
    shapely.prepare(area)
    x, y = positions(figures).T
    within = shapely.intersects_xy(area, x, y)
    return [figure for figure, yes in zip(figures, within, strict=True) if yes]
