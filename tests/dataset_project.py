"""Small real projects with labels, for tests of the export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
from shapely.geometry import MultiPoint, Point, box
from shapely.geometry.base import BaseGeometry

from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.stores.native import NativeStore

WIDTH, HEIGHT = 300, 200
_KINDS = {"Point": RoiKind.POINTS, "MultiPoint": RoiKind.POINTS, "Polygon": RoiKind.POLYGON}


def label(class_name: str | None, geometry: BaseGeometry, number: int, **more: object) -> PathObject:
    """An annotation of a person."""
    kind = RoiKind.RECTANGLE if geometry.equals(geometry.envelope) else _KINDS[geometry.geom_type]
    if geometry.geom_type != "Polygon":
        kind = RoiKind.POINTS
    made = PathObject(
        id=UUID(int=number),
        kind=ObjectKind.ANNOTATION,
        roi=Roi(kind, geometry),
        path_class=PathClass(class_name) if class_name else None,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def square(x: float, y: float, half: float = 10) -> BaseGeometry:
    return box(x - half, y - half, x + half, y + half)


#: A rectangle, two points, a look-alike, and what is none of our business.
LABELS = (
    label("Mitosis: Atypical", square(50, 60), 1, measurements={"Atypical votes": 2.0, "Votes": 3.0}),
    label("Mitosis", MultiPoint([(100, 110), (150, 120)]), 2),
    label("Non-mitosis", Point(200, 150).buffer(12), 3),
    label("Stroma", square(250, 50), 4),
    label(None, square(250, 150), 5),
)


def a_project(
    folder: Path,
    labels: Mapping[str, Iterable[PathObject]],
    metadata: Mapping[str, Mapping[str, str]] | None = None,
    mpp: float | None = 0.25,
) -> Project:
    """A project of one random image for each name, labelled."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    new = []
    for name in labels:
        path = folder / "images" / name
        cv2.imwrite(str(path), rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        new.append(NewImage(path, mpp, (metadata or {}).get(name, {})))
    project = create_project(folder, new)
    store = NativeStore(project)
    for entry in project.images:
        store.create(entry, list(labels[entry.name]))
    return project
