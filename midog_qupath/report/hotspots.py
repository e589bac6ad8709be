"""The mitotic count of the project as it stands: a table, and each hotspot over its slide's thumbnail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import orjson
import shapely

from midog_qupath.counting.count import CountOptions, count_project
from midog_qupath.counting.figures import Figure
from midog_qupath.counting.nottingham import SOURCE
from midog_qupath.counting.result import INTERVAL_NOTE, ImageCount, ProjectCount, Settings
from midog_qupath.errors import MidogError
from midog_qupath.progress import Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.model import Project
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.report.crops import jpeg_uri
from midog_qupath.report.page import Column, Table
from midog_qupath.slides.base import RgbArray
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.thumbnail import thumbnail

#: Longer side of a thumbnail in pixels, and most of them in a report: the richest images.
SIDE_PX, MOST = 420, 48
#: Colours of the window and of figures by whose word stands behind them.
_WINDOW = (0, 0, 0)
_COLORS = {"person": (0, 114, 178), "reviewed": (0, 158, 115), "unreviewed": (213, 94, 0)}
_COLUMNS = (
    ("image", "image", None),
    ("count", "count", 0),
    ("by_people", "drawn", 0),
    ("reviewed", "reviewed", 0),
    ("unreviewed", "unreviewed", 0),
    ("area_mm2", "mm²", 3),
    ("per_mm2", "per mm²", 2),
    ("per_10_hpf", "per 10 HPF", 1),
    ("nottingham_score", "score", 0),
    ("interval_low", "from", 0),
    ("interval_high", "to", 0),
    ("atypical_share", "atypical share", 2),
    ("x_px", "x (px)", 0),
    ("y_px", "y (px)", 0),
)


@dataclass(frozen=True)
class HotspotPicture:
    """A thumbnail (``uri``) with the window and the counted figures; ``alt`` and ``says`` in words."""

    title: str
    says: str
    alt: str
    uri: str


@dataclass(frozen=True)
class Hotspots:
    """The section: what was counted how (``says``), the table, pictures, and how many have none."""

    says: tuple[str, ...]
    table: Table
    pictures: tuple[HotspotPicture, ...]
    left_out: int


def hotspots(
    project: Project, store: ProjectStore, class_map: ClassMap, mpp: float | None, progress: Progress
) -> Hotspots | None:
    """Count as the command ``count`` does, with the settings of the newest count kept, else its defaults.

    None where nothing can be counted. Images too small for the window have no picture.
    """
    options = CountOptions(settings=_settings(project), class_map=class_map, mpp=mpp)
    try:
        counted = count_project(project, store, options, progress)
    except MidogError:
        return None
    rows = tuple(tuple(image.as_row()[key] for key, _, _ in _COLUMNS) for image in counted.images)
    columns = tuple(Column(head, digits) for _, head, digits in _COLUMNS)
    found = sorted((image for image in counted.images if image.spot), key=lambda image: -image.total)
    pictures = [picture for image in found[:MOST] if (picture := _picture(image)) is not None]
    table = Table("hotspots", "Mitotic count", columns, rows, place=(0, len(columns) - 2, len(columns) - 1))
    return Hotspots(_says(counted), table, tuple(pictures), len(found) - len(pictures))


def _settings(project: Project) -> Settings:
    for file in sorted((project.ours / "counts").glob("*/count.json"), reverse=True):
        try:
            kept = orjson.loads(file.read_bytes())
            return Settings(float(kept["area_mm2"]), kept["shape"], float(kept["field_diameter_mm"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return Settings()


def _says(counted: ProjectCount) -> tuple[str, ...]:
    settings = counted.settings
    says = [
        f"The richest {settings.shape} of {settings.area_mm2:g} mm² in each image, of what stands in the "
        "project now: figures drawn by people, detections that people reviewed, and unreviewed ones. In an "
        "image too small for it everything is counted.",
        f"High-power field: {settings.field_diameter_mm:g} mm in diameter.",
    ]
    if any(image.score is not None for image in counted.images):
        says.append(f"Score: Nottingham mitotic score by the table of {SOURCE}.")
    if any(image.interval is not None for image in counted.images):
        says.append(f"From, to: {INTERVAL_NOTE}.")
    reasons = dict.fromkeys(i.uncalibrated for i in counted.images if i.uncalibrated)
    says += [f"No interval for some images: {reason}." for reason in reasons]
    return (*says, *(f"Not counted: {error}" for error in counted.skipped.values()))


def _picture(image: ImageCount) -> HotspotPicture | None:
    assert image.spot is not None
    window = image.window.polygon(image.spot.x, image.spot.y)
    try:
        with open_entry(image.entry) as slide:
            small = thumbnail(slide, SIDE_PX).copy()
            scale = small.shape[1] / slide.width
    except MidogError:
        return None
    ring = np.rint(shapely.get_coordinates(window.exterior) * scale).astype(np.int32)
    cv2.polylines(small, [ring], True, _WINDOW, 2, cv2.LINE_AA)
    _dots(small, image.figures, scale)
    words = (
        f"{image.by('person')} drawn, {image.by('reviewed')} reviewed, {image.by('unreviewed')} unreviewed"
    )
    place = f"centre at {image.spot.x:.0f}, {image.spot.y:.0f} px"
    return HotspotPicture(
        title=image.entry.name,
        says=f"{image.total} mitoses ({words})",
        alt=f"Thumbnail of {image.entry.name} with its hotspot, {place}: {image.total} mitoses, {words}.",
        uri=jpeg_uri(small),
    )


def _dots(picture: RgbArray, figures: Sequence[Figure], scale: float) -> None:
    for figure in figures:
        at = (round(figure.x * scale), round(figure.y * scale))
        cv2.circle(picture, at, 3, _COLORS[figure.word], -1, cv2.LINE_AA)
