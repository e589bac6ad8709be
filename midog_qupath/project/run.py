"""A run of ``annotate``: its number, and detections as the objects that QuPath gets."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

import shapely
from shapely.geometry import Point

from midog_qupath.collector import paused
from midog_qupath.detection import Detection
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.manifest import RunManifest, load_manifests
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.ours import RUN_MEASUREMENT, WRITTEN_METADATA, written_mark
from midog_qupath.project.shapes import settled, storable

#: The largest run number that a measurement of a detection (32-bit float) holds exactly.
LARGEST_NUMBER = 2**24


@dataclass(frozen=True)
class DetectionClasses:
    """The classes of our detections; ``mitosis`` where normal and atypical are not told apart."""

    mitosis: PathClass
    normal: PathClass
    atypical: PathClass


def detection_classes(class_map: ClassMap, project: Project) -> DetectionClasses:
    """The classes of ``class_map``, in the colours that the project has for them."""
    colors = class_map.colors(project.classes)
    return DetectionClasses(
        *(
            PathClass(name, colors[normalised(name)])
            for name in (class_map.mitosis, class_map.normal, class_map.atypical)
        )
    )


@dataclass(frozen=True)
class RunInfo:
    """What is the same for all detections of a run.

    ``run`` is ``YYYYmmdd-HHMMSS-`` and 4 random hexadecimal digits; ``number`` counts the runs of a
    project from 1: the value of the measurement ``midog run``. ``started`` is an ISO time, ``threshold``
    the mitosis probability (0..1) from which a candidate is a detection, ``atypical_threshold`` the
    probability from which it is atypical (None: the model has no such classifier). ``calibrated``: whether
    mitosis probabilities say how often they are right (None: not known).
    """

    run: str
    number: int
    started: str
    model: str
    model_sha256: str
    threshold: float
    atypical_threshold: float | None
    classes: DetectionClasses
    software: Mapping[str, str]
    calibrated: bool | None = None


def new_run(
    project: Project,
    *,
    now: datetime,
    model: str,
    model_sha256: str,
    threshold: float,
    atypical_threshold: float | None,
    class_map: ClassMap,
    software: Mapping[str, str],
    calibrated: bool | None = None,
) -> RunInfo:
    """The next run of a project. Raises SafetyError when a manifest of the project is damaged."""
    number = 1 + max((manifest.number for manifest in load_manifests(project)), default=0)
    return RunInfo(
        run=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        number=min(number, LARGEST_NUMBER),
        started=now.isoformat(timespec="seconds"),
        model=model,
        model_sha256=model_sha256,
        threshold=threshold,
        atypical_threshold=atypical_threshold,
        classes=detection_classes(class_map, project),
        software=software,
        calibrated=calibrated,
    )


def empty_manifest(run: RunInfo, store: str, keep: bool) -> RunManifest:
    """The manifest of a run that has not yet written to any image."""
    return RunManifest(
        run=run.run,
        number=run.number,
        started=run.started,
        model=run.model,
        model_sha256=run.model_sha256,
        threshold=run.threshold,
        atypical_threshold=run.atypical_threshold,
        software=dict(run.software),
        store=store,
        keep=keep,
        calibrated=run.calibrated,
    )


@paused()
def as_path_objects(
    detections: Sequence[Detection], run: RunInfo, entry_id: str, first: int = 0
) -> tuple[PathObject, ...]:
    """The detections of an image as the objects that stand in QuPath.

    Their ids follow from run, image and place in the list, counted from ``first``: a run that is resumed
    writes the same ids again. A detection without a usable outline becomes a point.
    """
    ready = settled([detection.polygon for detection in detections])
    rois = [
        Roi(RoiKind.POLYGON, outline) if outline is not None else _roi(detection)
        for detection, outline in zip(detections, ready, strict=True)
    ]
    bounds = shapely.bounds([roi.geometry for roi in rois]).tolist()
    return tuple(
        _as_path_object(detection, run, object_id(run.run, entry_id, first + index), roi, limits)
        for index, (detection, roi, limits) in enumerate(zip(detections, rois, bounds, strict=True))
    )


def _roi(detection: Detection) -> Roi:
    """The outline of a detection as far as it can be kept, or its position."""
    outline = storable(detection.polygon) if detection.polygon is not None else None
    if outline is not None:
        return Roi(RoiKind.POLYGON, outline)
    return Roi(RoiKind.POINTS, Point(round(detection.x, 2), round(detection.y, 2)))


def _as_path_object(
    detection: Detection, run: RunInfo, identity: UUID, roi: Roi, bounds: Sequence[float]
) -> PathObject:
    path_class = class_of(detection, run)
    return PathObject(
        id=identity,
        kind=ObjectKind.DETECTION,
        roi=roi,
        path_class=path_class,
        measurements=_measurements(detection, run),
        metadata={
            "midog_qupath.run": run.run,
            "midog_qupath.model": run.model,
            WRITTEN_METADATA: written_mark(path_class.name, bounds),
        },
    )


def object_id(run: str, entry_id: str, index: int) -> UUID:
    """The id of detection ``index`` of an image in a run."""
    return uuid5(NAMESPACE_URL, f"midog-qupath:{run}:{entry_id}:{index}")


def class_of(detection: Detection, run: RunInfo) -> PathClass:
    """The class in which a run shows a detection."""
    if detection.atypical_probability is None or run.atypical_threshold is None:
        return run.classes.mitosis
    atypical = detection.atypical_probability >= run.atypical_threshold
    return run.classes.atypical if atypical else run.classes.normal


def _measurements(detection: Detection, run: RunInfo) -> dict[str, float]:
    measurements = {"Mitosis probability": float(detection.mitosis_probability)}
    if detection.atypical_probability is not None:
        measurements["Atypical probability"] = float(detection.atypical_probability)
    return {**measurements, RUN_MEASUREMENT: float(run.number)}
