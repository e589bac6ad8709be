"""Which form a file of labels has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from midog_qupath.errors import LabelsError
from midog_qupath.project.labels.coco import Boxes, is_coco, load_json, read_coco
from midog_qupath.project.labels.given import GivenLabels, Words
from midog_qupath.project.labels.outlines import merged, read_outlines
from midog_qupath.project.labels.points import read_points

_TABLES = (".csv", ".tsv", ".txt")


def read_labels(
    paths: Sequence[Path], words: Words, boxes: Boxes | None = None, image: str | None = None
) -> GivenLabels:
    """The labels of files: COCO JSON, a CSV of points, or GeoJSON (also folders of it, one file an image).

    ``boxes``: how a COCO file writes boxes, None to find it out. ``image``: the image that one GeoJSON file
    is of, else it is called after the image.

    Raises
    ------
    LabelsError, GeoJsonError
        If a file is missing, of none of these forms, or damaged.
    """
    files = [file for path in paths for file in _files(path)]
    if image is not None and len(files) != 1:
        raise LabelsError(
            f"One image is named, and {len(files)} files.", "Give one GeoJSON file with --image."
        )
    return merged([_read(file, words, boxes, image) for file in files])


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.lower().endswith((".geojson", ".geojson.gz")))
    if not found:
        raise LabelsError(
            f"There is no GeoJSON in {path}.", "Give a file, or a folder of <image>.geojson files."
        )
    return found


def _read(path: Path, words: Words, boxes: Boxes | None, image: str | None) -> GivenLabels:
    if not path.is_file():
        raise LabelsError(f"There is no file {path}.", "Give a COCO, CSV or GeoJSON file.")
    if path.suffix.lower() in _TABLES:
        _refuse_image(path, image)
        return read_points(path, words)
    if path.suffix.lower() == ".json":
        raw = load_json(path)
        if is_coco(raw):
            _refuse_image(path, image)
            return read_coco(path, raw, words, boxes)
    return read_outlines(path, words, image)


def _refuse_image(path: Path, image: str | None) -> None:
    if image is not None:
        raise LabelsError(
            f"{path} names its images itself.", "Leave --image out, or correct the names in the file."
        )
