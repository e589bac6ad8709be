"""Projects and objects for the tests of the native store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import cv2
import numpy as np
import shapely
from shapely.geometry import MultiPoint, Point, Polygon, box

from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Plane, Project, Roi, RoiKind
from midog_qupath.project.qpdata.create import new_data
from midog_qupath.project.qpproj import open_project
from midog_qupath.units import WORKING_MPP

ATYPICAL = PathClass("Mitosis: Atypical", -1869886)
NORMAL = PathClass("Mitosis: Normal", -14714956)
HOLED = Polygon(box(10, 10, 60, 60).exterior, [box(20, 20, 30, 30).exterior])
SERVER = {"builderType": "uri", "providerClassName": "x.Builder", "uri": "file:/a.png", "args": []}


def detection(index: int = 0, path_class: PathClass | None = ATYPICAL) -> PathObject:
    """A detection as ``annotate`` writes it."""
    shape = Point(20 + index % 50 * 20, 20 + index // 50 * 20).buffer(8, quad_segs=4)
    return PathObject(
        uuid4(),
        ObjectKind.DETECTION,
        Roi(RoiKind.POLYGON, shape),
        path_class,
        measurements={"Mitosis probability": 0.9, "midog run": 7.0},
        metadata={"midog_qupath.run": "a run"},
    )


def drawn(
    kind: RoiKind,
    geometry: shapely.Geometry,
    path_class: PathClass | None = None,
    name: str | None = None,
    locked: bool = False,
) -> PathObject:
    """An annotation as a pathologist draws it."""
    roi = Roi(kind, geometry, Plane(-1, 0, 0))
    return PathObject(uuid4(), ObjectKind.ANNOTATION, roi, path_class, name, locked=locked)


def drawings() -> list[PathObject]:
    """An annotation of every shape that can be written, and a detection."""
    region, mitosis = PathClass("Region*", -16777036), PathClass("Mitosis", -2742488)
    ellipse = shapely.Polygon(
        [(30 + 20 * np.cos(a), 40 + 10 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 73)]
    )
    return [
        drawn(RoiKind.RECTANGLE, box(50, 60, 300.5, 400.25), region, locked=True),
        drawn(RoiKind.ELLIPSE, ellipse, mitosis, name="ä\U0001f52c\x00 \n"),
        drawn(RoiKind.POLYGON, Polygon([(1, 1), (9, 2), (5, 8.25)]), ATYPICAL),
        drawn(RoiKind.POINTS, MultiPoint([(5, 6), (9, 9)]), mitosis),
        drawn(RoiKind.GEOMETRY, HOLED, PathClass("Non-mitosis", -8421505)),
        drawn(RoiKind.RECTANGLE, box(0, 0, 5, 5)),
        detection(3),
    ]


def new_bytes(objects: Sequence[PathObject]) -> bytes:
    """A data file that holds ``objects``."""
    return new_data(SERVER, "0.6.0", objects)


def made_project(folder: Path, images: int = 1) -> Project:
    """A project of small generated images, no objects in it yet."""
    paths = []
    for index in range(images):
        path = folder / "images" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(".png", np.full((400, 400, 3), 200, np.uint8))[1]
        path.write_bytes(data.tobytes())
        paths.append(path)
    return create_project(folder, [NewImage(path, WORKING_MPP, {}) for path in paths])


def real_images(data_dir: Path, folder: Path, ids: Sequence[int]) -> Project:
    """A copy of the real project that holds the data of a few images only, writable."""
    source = data_dir / "breast-mitosis"
    for name in map(str, ids):
        (folder / "data" / name).mkdir(parents=True)
        for file in ("data.qpdata", "summary.json", "server.json"):
            shutil.copyfile(source / "data" / name / file, folder / "data" / name / file)
    (folder / "classifiers").mkdir()
    shutil.copyfile(source / "classifiers" / "classes.json", folder / "classifiers" / "classes.json")
    shutil.copyfile(source / "project.qpproj", folder / "project.qpproj")
    return open_project(folder)


def ids(objects: Sequence[PathObject]) -> frozenset[UUID]:
    """Ids of objects."""
    return frozenset(item.id for item in objects if item.id is not None)
