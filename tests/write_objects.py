"""Small objects, detections and runs for the tests of writing."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shapely.geometry import Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from midog_qupath.detection import Detection
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.journal import written_objects
from midog_qupath.project.manifest import ImageRecord, RunManifest
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.run import DetectionClasses, RunInfo, as_path_objects, new_run

AREA = box(0, 0, 1000, 1000)
ENTRY = "1"
CLASSES = DetectionClasses(*ClassMap().path_classes()[:3])


def run_info(run: str = "20250101-120000-abcd", number: int = 1) -> RunInfo:
    return RunInfo(
        run=run,
        number=number,
        started="2025-01-01T12:00:00",
        model="demo",
        model_sha256="0" * 64,
        threshold=0.5,
        atypical_threshold=0.5,
        classes=CLASSES,
        software={"midog-qupath": "0"},
    )


def next_run(project: Project, hour: int = 12) -> RunInfo:
    return new_run(
        project,
        now=datetime(2025, 1, 1, hour),
        model="demo",
        model_sha256="0" * 64,
        threshold=0.5,
        atypical_threshold=0.5,
        class_map=ClassMap(),
        software={},
    )


def detection(x: float, y: float, atypical: float | None = 0.1) -> Detection:
    return Detection(x, y, 0.9, atypical, circle(x, y))


def circle(x: float, y: float, radius: float = 12.0) -> Polygon:
    return Point(x, y).buffer(radius, quad_segs=4)


def ours(x: float, y: float, run: RunInfo | None = None, index: int = 0) -> PathObject:
    return as_path_objects([detection(x, y)], run or run_info(), ENTRY, index)[0]


def drawn(geometry: BaseGeometry, class_name: str = "Mitosis", identity: int = 1) -> PathObject:
    """An annotation of a person."""
    return PathObject(
        id=UUID(int=identity),
        kind=ObjectKind.ANNOTATION,
        roi=Roi(RoiKind.POLYGON, geometry),
        path_class=PathClass(class_name),
    )


def manifest(
    *objects: PathObject, run: str = "20250101-120000-abcd", state: str = "written", **record: tuple
) -> RunManifest:
    """What a run that wrote ``objects`` to the image left."""
    record = ImageRecord(
        entry_id=ENTRY,
        name="image.png",
        stem="image",
        state=state,
        mpp=0.25,
        area=AREA.wkt,
        sidecar="detections/run/image.geojson",
        objects=written_objects(objects),
        **record,
    )
    return RunManifest(
        run=run,
        number=1,
        started="2025-01-01T12:00:00",
        model="demo",
        model_sha256="0" * 64,
        threshold=0.5,
        atypical_threshold=0.5,
        software={},
        store="native",
        keep=False,
        images=(record,),
    )
