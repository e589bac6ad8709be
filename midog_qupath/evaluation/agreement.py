"""How far two annotators agree: two people, or a person and a model's run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midog_qupath.errors import EvaluationError
from midog_qupath.evaluation.bootstrap import Interval, bootstrap, f1_statistic
from midog_qupath.evaluation.kappa import kappa, kappa_statistic
from midog_qupath.evaluation.matching import Points, match
from midog_qupath.evaluation.metrics import Counts, count
from midog_qupath.evaluation.predictors import inside, pixel_size
from midog_qupath.evaluation.result import counts_json
from midog_qupath.evaluation.truth import people
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.cases import image_case, image_domain
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.ground_truth import LabelledObject, ground_truth
from midog_qupath.project.model import ImageEntry, PathClass, PathObject, Project
from midog_qupath.project.select import select_images
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.sidecar import annotation_file, read_annotations

_MITOSES = ("mitosis", "normal", "atypical")
#: Objects of an image by one annotator; None where that annotator did not look at it, as far as is known.
Reader = Callable[[ImageEntry, Sequence[PathObject]], Sequence[PathObject] | None]


@dataclass(frozen=True)
class AgreementOptions:
    """``images``: name patterns, none for all; ``mpp``: of images whose pixel size nobody knows."""

    images: Sequence[str] = ()
    class_map: ClassMap = field(default_factory=ClassMap)
    mpp: float | None = None


@dataclass(frozen=True)
class ImageAgreement:
    """Two annotators on one image.

    ``counts``: mitoses of the second against those of the first. ``mitosis``: (2, 2) how often, of objects
    that both labelled within 7.5 um, the first said look-alike or mitosis (rows) and the second (columns).
    ``types``: the same for normal and atypical.
    """

    name: str
    case: str
    domain: str
    counts: Counts
    mitosis: NDArray[np.int64]
    types: NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Two annotators on the images that both labelled; ``left_out`` images were labelled by one only."""

    first: str
    second: str
    images: tuple[ImageAgreement, ...]
    left_out: int

    def counts(self) -> Counts:
        """Pooled: mitoses of the second against those of the first."""
        return sum((image.counts for image in self.images), Counts())

    def as_json(self) -> dict[str, Any]:
        """Figures with 95 % intervals by case, as plain values."""
        counts, cases = self.counts(), self._by_case()
        f1 = _interval(f1_statistic([counts for counts, _, _ in cases]), len(cases))
        domains = sorted({image.domain for image in self.images})
        per_domain = {
            name: sum((i.counts for i in self.images if i.domain == name), Counts()) for name in domains
        }
        return {
            "a": self.first,
            "b": self.second,
            "images": len(self.images),
            "left_out_images": self.left_out,
            "cases": len(cases),
            "mitoses_a": counts.tp + counts.fn,
            "mitoses_b": counts.tp + counts.fp,
            "b_against_a": {**counts_json(counts), "ci": {"f1": f1}},
            "per_domain": {name: counts_json(one) for name, one in per_domain.items()},
            "kappa_mitosis": self._kappa([table for _, table, _ in cases], ("non_mitosis", "mitosis")),
            "kappa_type": self._kappa([table for _, _, table in cases], ("normal", "atypical")),
        }

    def _by_case(self) -> list[tuple[Counts, NDArray[np.int64], NDArray[np.int64]]]:
        cases = sorted({image.case for image in self.images})
        of = {case: [image for image in self.images if image.case == case] for case in cases}
        return [
            (
                sum((image.counts for image in of[case]), Counts()),
                np.sum([image.mitosis for image in of[case]], axis=0),
                np.sum([image.types for image in of[case]], axis=0),
            )
            for case in cases
        ]

    def _kappa(self, tables: Sequence[NDArray[np.int64]], names: tuple[str, str]) -> dict[str, Any]:
        pooled = np.sum(tables, axis=0)
        return {
            "kappa": kappa(pooled),
            "ci": _interval(kappa_statistic(tables), len(tables)),
            "objects": int(pooled.sum()),
            "classes": list(names),
            "table": pooled.tolist(),
        }


def _interval(statistic: Callable[..., Any], cases: int) -> list[float] | None:
    found: Interval | None = bootstrap(statistic, cases) if cases > 1 else None
    return [found.low, found.high] if found is not None and not np.isnan(found.low) else None


def agreement(
    project: Project,
    store: ProjectStore,
    first: str,
    second: str,
    options: AgreementOptions,
    progress: Progress = SILENT,
) -> Agreement:
    """Compare two annotators, inside exhaustively labelled ground where an image has some, else in all of it.

    ``first``, ``second``: each a folder of GeoJSON files (``<image>.geojson``), the id of a run, or a prefix
    of classes (``Anna`` for ``Anna: Mitosis`` and ``Anna: Mitosis: Normal``). An image was looked at by an
    annotator where the folder has its file, or where an object of the prefix is drawn.

    Raises
    ------
    EvaluationError
        If a name is neither of these, both are the same, no image was labelled by both, or a file has an
        object twice.
    """
    if first == second:
        raise EvaluationError(f"--a and --b are both {first}.", "Name two annotators.")
    entries = select_images(project, options.images)
    readers = [_reader(project, name) for name in (first, second)]
    truth = _Ground(project, options.class_map)
    images: list[ImageAgreement] = []
    left_out, looked = 0, [0, 0]
    with progress.task("comparing", len(entries), "images") as advance:
        for entry in entries:
            objects = store.read(entry)
            both = [read(entry, objects) for read in readers]
            looked = [n + (one is not None) for n, one in zip(looked, both, strict=True)]
            if both[0] is not None and both[1] is not None:
                images.append(_compare(entry, both[0], both[1], truth.area(entry, objects), options))
            else:
                left_out += any(one is not None for one in both)
            advance(1)
    _require_both(images, looked, (first, second))
    return Agreement(first, second, tuple(images), left_out)


def _require_both(images: Sequence[ImageAgreement], looked: Sequence[int], names: tuple[str, str]) -> None:
    for name, number in zip(names, looked, strict=True):
        if not number:
            raise EvaluationError(
                f"{name} is no folder or run with a file for an image here, and no class begins so.",
                "Give a folder of GeoJSON files, a run's id, or what classes begin with ('Anna' for "
                "'Anna: Mitosis').",
            )
    if not images:
        raise EvaluationError(
            f"No image was labelled by both {names[0]} and {names[1]}.", "Let both label the same images."
        )


def _reader(project: Project, name: str) -> Reader:
    folders = [folder for folder in (project.ours / "detections" / name, Path(name)) if folder.is_dir()]
    if folders:
        return lambda entry, _: _from_folder(folders[0], entry)
    if Path(name).name != name:
        raise EvaluationError(f"There is no folder {name}.", "Give one with a GeoJSON file for each image.")
    return lambda _, objects: _with_prefix(objects, normalised(name))


def _from_folder(folder: Path, entry: ImageEntry) -> Sequence[PathObject] | None:
    if annotation_file(folder, entry) is None:
        return None
    found = read_annotations(folder, entry)
    ids = Counter(thing.id for thing in found if thing.id is not None)
    twice = [str(identity) for identity, number in ids.items() if number > 1]
    if twice:
        raise EvaluationError(
            f"{folder}: object {twice[0]} of image '{entry.name}' stands there more than once.",
            "Export the image's annotations from QuPath again.",
        )
    return found


def _with_prefix(objects: Sequence[PathObject], prefix: str) -> Sequence[PathObject] | None:
    start = f"{prefix}: "
    found = [
        replace(thing, path_class=PathClass(normalised(thing.class_name).removeprefix(start)))
        for thing in objects
        if thing.class_name is not None and normalised(thing.class_name).startswith(start)
    ]
    return found or None


class _Ground:
    """Where in an image all mitoses are labelled, as the project says."""

    def __init__(self, project: Project, class_map: ClassMap) -> None:
        self._counts, self._class_map = people(project), class_map

    def area(self, entry: ImageEntry, objects: Sequence[PathObject]) -> Any:
        return ground_truth(entry, objects, self._class_map, self._counts).area(entry)


def _compare(
    entry: ImageEntry,
    first: Sequence[PathObject],
    second: Sequence[PathObject],
    area: Any,
    options: AgreementOptions,
) -> ImageAgreement:
    mpp = pixel_size(entry, options.mpp)
    one, other = (_labels(entry, objects, options.class_map, area) for objects in (first, second))
    mitoses = [_places([x for x in labels if x.role in _MITOSES]) * mpp for labels in (one, other)]
    tables = np.zeros((2, 2, 2), dtype=np.int64)
    for a, b in match(_places(one) * mpp, _places(other) * mpp).hits:
        said = one[a].role, other[b].role
        tables[(0, *(int(role != "non_mitosis") for role in said))] += 1
        if all(role in ("normal", "atypical") for role in said):
            tables[(1, *(int(role == "atypical") for role in said))] += 1
    return ImageAgreement(
        entry.name, image_case(entry), image_domain(entry), count(*mitoses), tables[0], tables[1]
    )


def _labels(
    entry: ImageEntry, objects: Sequence[PathObject], class_map: ClassMap, area: Any
) -> list[LabelledObject]:
    # What the project says of the image's extent is not what one annotator has to keep.
    plain = replace(entry, metadata=_without(entry.metadata, "labelled"))
    labels = ground_truth(plain, objects, class_map, lambda thing: True).objects
    if area is None:
        return list(labels)
    within = inside(_places(labels), area)
    return [thing for thing, yes in zip(labels, within, strict=True) if yes]


def _without(values: Mapping[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name != key}


def _places(labels: Sequence[LabelledObject]) -> Points:
    return np.array([(thing.x, thing.y) for thing in labels], dtype=np.float64).reshape(-1, 2)
