"""The ground truth that a model is measured against: per image, without the cases it has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from midog_qupath.evaluation.matching import Points
from midog_qupath.inference.areas import cell_side
from midog_qupath.project.cases import image_case, image_domain, image_region_type, object_case
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import GroundTruth, LabelledObject, ground_truth
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject, Project
from midog_qupath.project.ours import Standing, ours_state
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.choose import people_objects
from midog_qupath.slides.check import sized

_MITOSES = ("mitosis", "normal", "atypical")


@dataclass(frozen=True)
class ImageTruth:
    """What is measured in one image; positions (N, 2) x, y in slide pixels.

    ``area``: where every mitotic figure is labelled (None: nowhere, detections are not measured).
    ``mitoses``: the figures in it. ``typed``: figures whose type is known, anywhere in the image, and
    ``is_atypical`` (N,) their type. ``case``: of the image, ``typed_cases`` (N,): of each typed figure.
    """

    entry: ImageEntry
    case: str
    domain: str
    region_type: str
    area: BaseGeometry | None
    mitoses: Points
    typed: Points
    is_atypical: NDArray[np.bool_]
    typed_cases: tuple[str, ...]

    @property
    def cell_px(self) -> float | None:
        """Side of the cells of a mosaic in slide pixels."""
        return cell_side(self.entry)


@dataclass(frozen=True)
class Truth:
    """All images that are measured; ``left_out`` cases were seen by the model and are not in them.

    ``labelled``: whether the project holds any ground truth at all.
    """

    images: tuple[ImageTruth, ...]
    left_out: tuple[str, ...]
    labelled: bool


def people(project: Project) -> Callable[[PathObject], bool]:
    """What counts as ground truth: people's annotations, and detections of ours that a person touched."""
    standing = ours_state(project)

    def counts(thing: PathObject) -> bool:
        whose = standing(thing)
        return whose is Standing.TOUCHED or (whose is Standing.THEIRS and thing.kind is ObjectKind.ANNOTATION)

    return counts


def collect_truth(
    project: Project,
    entries: Sequence[ImageEntry],
    store: ProjectStore,
    class_map: ClassMap,
    ground_truth_dir: Path | None,
    seen_cases: frozenset[str],
) -> Truth:
    """Ground truth of the images, without what belongs to ``seen_cases``.

    Raises
    ------
    StoreError, ProjectError
        If the objects of an image cannot be read: figures without it would not be those of the project.
    """
    counts = people(project)
    images: list[ImageTruth] = []
    left_out: set[str] = set()
    labelled = False
    for entry in map(sized, entries):
        objects = people_objects(store, entry, ground_truth_dir)
        truth = ground_truth(entry, objects, class_map, counts)
        labelled |= truth.extent != "objects" or any(o.role in _MITOSES for o in truth.objects)
        left_out |= _cases(entry, truth) & seen_cases
        image = image_truth(entry, truth, seen_cases)
        if image.area is not None or len(image.typed):
            images.append(image)
    return Truth(tuple(images), tuple(sorted(left_out)), labelled)


def image_truth(entry: ImageEntry, truth: GroundTruth, seen_cases: frozenset[str]) -> ImageTruth:
    """What of an image may be measured."""
    area = truth.area(entry) if image_case(entry) not in seen_cases else None
    if area is not None and entry.width and entry.height:
        area = shapely.intersection(area, shapely.box(0, 0, entry.width, entry.height))
    mitoses = [o for o in truth.objects if o.role in _MITOSES and o.inside] if area is not None else []
    typed = [
        o for o in truth.objects if o.role in ("normal", "atypical") and _case(entry, o) not in seen_cases
    ]
    return ImageTruth(
        entry=entry,
        case=image_case(entry),
        domain=image_domain(entry),
        region_type=image_region_type(entry),
        area=area,
        mitoses=_positions(mitoses),
        typed=_positions(typed),
        is_atypical=np.array([o.role == "atypical" for o in typed], dtype=np.bool_),
        typed_cases=tuple(_case(entry, o) for o in typed),
    )


def _case(entry: ImageEntry, thing: LabelledObject) -> str:
    return object_case(image_case(entry), thing.name, cell_side(entry) is not None)


def _cases(entry: ImageEntry, truth: GroundTruth) -> set[str]:
    # A mosaic's own case is none: its cells are of many.
    own = {image_case(entry)} if truth.extent != "objects" else set()
    return own | {_case(entry, thing) for thing in truth.objects}


def _positions(objects: Sequence[LabelledObject]) -> Points:
    return np.array([(o.x, o.y) for o in objects], dtype=np.float64).reshape(-1, 2)
