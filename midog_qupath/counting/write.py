"""A count as files beside the project, and as annotations in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from midog_qupath import files
from midog_qupath.counting.result import ImageCount, ProjectCount
from midog_qupath.progress import Progress
from midog_qupath.project.disk import writing
from midog_qupath.project.geojson import write_features
from midog_qupath.project.hotspots import HotspotReport, hotspot_object, write_hotspots
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.write import StoreFactory

#: Measurements of the annotation: name, and column of the table.
_MEASUREMENTS = (
    ("Mitotic count", "count"),
    ("Mitotic count: drawn by people", "by_people"),
    ("Mitotic count: reviewed", "reviewed"),
    ("Mitotic count: unreviewed", "unreviewed"),
    ("Area mm^2", "area_mm2"),
    ("Tissue share", "tissue_share"),
    ("Mitoses per mm^2", "per_mm2"),
    ("Mitoses per 10 HPF", "per_10_hpf"),
    ("Field diameter mm", "field_diameter_mm"),
    ("Nottingham mitotic score", "nottingham_score"),
    ("Atypical share", "atypical_share"),
    ("Count interval 95% low", "interval_low"),
    ("Count interval 95% high", "interval_high"),
)


def count_folder(project: Project, count: ProjectCount) -> Path:
    """Where the files of a count lie."""
    return project.ours / "counts" / count.count


def write_count(project: Project, count: ProjectCount) -> Path:
    """Write ``count.csv``, ``count.json`` and each image's window as ``<image>.geojson``; returns the folder.

    Raises
    ------
    SafetyError
        If the folder cannot be written.
    """
    folder = count_folder(project, count)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for entry, hotspot in _hotspots(count):
            write_features(folder / f"{entry.stem}.geojson", [hotspot])
        files.write_bytes(folder / "count.csv", count.as_csv().encode("utf-8"))
        files.write_json(folder / "count.json", count.as_json())
    return folder


def hotspot_files(project: Project, count: ProjectCount) -> dict[str, str]:
    """Where each image's window lies as GeoJSON, by entry id."""
    folder = count_folder(project, count)
    return {
        entry.entry_id: str(folder / f"{entry.stem}.geojson")
        for entry in (image.entry for image in count.images if image.spot is not None)
    }


def write_into_project(
    project: Project, store_factory: StoreFactory, count: ProjectCount, progress: Progress
) -> HotspotReport:
    """Put each image's window into the project as an annotation; see :func:`write_hotspots`."""
    return write_hotspots(project, store_factory, list(_hotspots(count)), progress)


def _hotspots(count: ProjectCount) -> Iterator[tuple[ImageEntry, PathObject]]:
    for image in count.images:
        if image.spot is not None:
            window = image.window.polygon(image.spot.x, image.spot.y)
            circle = image.window.shape == "circle"
            entry = image.entry
            yield entry, hotspot_object(window, circle, count.count, entry.entry_id, measurements(image))


def measurements(image: ImageCount) -> dict[str, float]:
    """What QuPath shows of a count; what does not exist is left out."""
    row = image.as_row()
    return {name: float(row[column]) for name, column in _MEASUREMENTS if row[column] is not None}
