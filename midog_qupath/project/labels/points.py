"""A CSV of points: one line a labelled object."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from shapely.geometry import Point

from midog_qupath.errors import LabelsError
from midog_qupath.project.labels.given import IGNORE, GivenLabels, ImageLabels, Words
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind

#: Column -> headings that mean it, in small letters.
_HEADINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "image": ("image", "file", "filename", "file_name", "image_id", "slide"),
        "x": ("x", "x_px", "center_x", "centroid x px"),
        "y": ("y", "y_px", "center_y", "centroid y px"),
        "label": ("label", "class", "category", "classification", "name"),
    }
)


#: No label data set has all its objects nearer to the corner than this (pixels).
_TINY = 5


@dataclass(frozen=True)
class _Line:
    image: str
    x: float
    y: float
    label: str


def read_points(path: Path, words: Words) -> GivenLabels:
    """The labels of a CSV with a header: ``image, x, y, label``; positions in pixels of the image.

    Comma, semicolon or tab; UTF-8. Other columns are passed over.

    Raises
    ------
    LabelsError
        If it cannot be read, lacks a column, holds what is no number, or labels of unknown meaning.
    """
    lines = list(_lines(path))
    if not lines:
        raise LabelsError(f"{path} holds no points.", "Give one line a labelled object below the header.")
    words.require_known((line.label for line in lines), path.name)
    _require_pixels(path, lines)
    found: dict[str, list[PathObject]] = defaultdict(list)
    ignored = 0
    for line in lines:
        class_name = words.class_of(line.label)
        if class_name is None or class_name == IGNORE:
            ignored += 1
            continue
        roi = Roi(RoiKind.POINTS, Point(line.x, line.y))
        found[line.image].append(PathObject(None, ObjectKind.ANNOTATION, roi, PathClass(class_name)))
    images = tuple(ImageLabels(name, tuple(objects)) for name, objects in found.items())
    return GivenLabels(path.name, images, {"ignored": ignored} if ignored else {})


def _require_pixels(path: Path, lines: Sequence[_Line]) -> None:
    """Refuse millimetres and shares of the image: many points, and all of them in the first few pixels."""
    if len(lines) > 1 and all(abs(line.x) < _TINY and abs(line.y) < _TINY for line in lines):
        raise LabelsError(
            f"{path}: all positions are below {_TINY} pixels.",
            "Give pixels of the full-resolution image, not millimetres or shares of its size.",
        )


def _lines(path: Path) -> Iterator[_Line]:
    rows, headings = table_rows(path)
    columns = {name: _column(path, name, known, headings) for name, known in _HEADINGS.items()}
    for number, row in rows:
        image, label = row.get(columns["image"], ""), row.get(columns["label"], "")
        if not image or not label:
            empty = "image" if not image else "label"
            raise LabelsError(
                f"{path}, line {number}: the {empty} is empty.", "Fill it in, or remove the line."
            )
        x, y = (_number(path, number, axis, row.get(columns[axis], "")) for axis in "xy")
        yield _Line(image, x, y, label)


def _column(path: Path, name: str, known: Sequence[str], headings: Sequence[str]) -> str:
    """The heading of a column as the file writes it: the first of ``known`` that it has."""
    by_key = {heading.strip().lower().replace("µm", "um"): heading for heading in headings}
    for key in known:
        if key in by_key:
            return by_key[key]
    raise LabelsError(
        f"{path} has no column '{name}' (it has: {', '.join(headings) or 'none'}).",
        "Give the columns image, x, y (pixels) and label.",
    )


def _number(path: Path, number: int, axis: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LabelsError(
            f"{path}, line {number}: {axis} is {text!r}, no number.",
            "Write pixels with a decimal point, such as 1024.5.",
        )
    return value


def table_rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Lines of a CSV by heading, each with its number in the file, and the headings; cells stripped.

    Raises
    ------
    LabelsError
        If the file cannot be read, is no UTF-8 text, or a line has more cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"{path} cannot be read.", "Give a CSV file in UTF-8 with a header.") from error
    header = text.split("\n", 1)[0]
    # Excel writes semicolons wherever the comma is the decimal sign.
    delimiter = next((mark for mark in (";", "\t") if mark in header), ",")
    reader = csv.DictReader(text.splitlines(keepends=True), restkey="", restval="", delimiter=delimiter)
    headings = [heading for heading in reader.fieldnames or () if heading]
    rows = []
    try:
        for row in reader:
            if row.get(""):
                raise LabelsError(
                    f"{path}, line {reader.line_num}: more cells than the header.", "Correct the table."
                )
            rows.append((reader.line_num, {key: (row[key] or "").strip() for key in headings}))
    except csv.Error as error:
        raise LabelsError(f"{path} is no CSV ({error}).", "Give a CSV file with a header.") from error
    return [(number, row) for number, row in rows if any(row.values())], headings
