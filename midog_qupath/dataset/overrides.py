"""Tables that say more or better than the project: ``--image-table`` and ``--object-table``.

CSV with a header, comma or semicolon, UTF-8. An empty cell leaves the project's value.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from midog_qupath.dataset.format import Extent, ObjectRow
from midog_qupath.errors import DatasetError
from midog_qupath.units import MATCH_RADIUS, MicronsPerPixel, to_pixels


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(min_length=1)


class ImageLine(_Line):
    """One line of the image table; None leaves what the project says. ``cell_px`` in slide pixels."""

    case: str | None = None
    domain: str | None = None
    extent: Extent | None = None
    cell_px: int | None = Field(default=None, gt=0)


class ObjectLine(_Line):
    """One line of the object table: the object by its id or its place (slide pixels), and what to change."""

    source_id: str | None = None
    x: float | None = None
    y: float | None = None
    label: str | None = None
    votes_atypical: int | None = Field(default=None, ge=0)
    votes_total: int | None = Field(default=None, ge=1)
    case: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> ObjectLine:
        if self.source_id is None and (self.x is None or self.y is None):
            raise ValueError("give source_id, or x and y")
        if (self.votes_atypical or 0) > (self.votes_total or math.inf):
            raise ValueError("votes_atypical is larger than votes_total")
        return self


Line = TypeVar("Line", ImageLine, ObjectLine)


@dataclass(frozen=True)
class Overrides:
    """Both tables by image name."""

    images: Mapping[str, ImageLine]
    objects: Mapping[str, tuple[ObjectLine, ...]]


def read_overrides(image_table: Path | None, object_table: Path | None, known: Iterable[str]) -> Overrides:
    """Read the tables that are given; ``known`` are the names of the project's images.

    Raises
    ------
    DatasetError
        If a table cannot be read, has an unknown column or image, a wrong value, or an image twice.
    """
    names = set(known)
    images = _read(image_table, ImageLine, names) if image_table else []
    objects = _read(object_table, ObjectLine, names) if object_table else []
    by_name = {line.image: line for line in images}
    if len(by_name) != len(images):
        twice = next(line.image for line in images if by_name[line.image] is not line)
        raise DatasetError(f"{image_table} names the image {twice} twice.", "Keep one line for each image.")
    return Overrides(by_name, {name: tuple(line for line in objects if line.image == name) for name in names})


def _read(path: Path, kind: type[Line], known: set[str]) -> list[Line]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read.", "Give a CSV file in UTF-8 with a header.") from error
    header = text.split("\n", 1)[0]
    # Excel writes semicolons wherever the comma is the decimal sign.
    reader = csv.DictReader(
        text.splitlines(keepends=True), restkey="more cells", delimiter=";" if ";" in header else ","
    )
    unknown = sorted(set(reader.fieldnames or ()) - set(kind.model_fields))
    if unknown or "image" not in (reader.fieldnames or ()):
        what = f"has an unknown column {unknown[0]!r}" if unknown else "has no column 'image'"
        raise DatasetError(f"{path} {what}.", f"Columns: {', '.join(kind.model_fields)}.")
    return [_line(path, number, row, kind, known) for number, row in enumerate(reader, start=2)]


def _line(path: Path, number: int, row: Mapping[str, str | None], kind: type[Line], known: set[str]) -> Line:
    given = {key: str(value).strip() for key, value in row.items() if value and str(value).strip()}
    try:
        line = kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "line"
        raise DatasetError(
            f"{path}, line {number}, {place}: {first['msg']}.", "Correct the table."
        ) from error
    if line.image not in known:
        raise DatasetError(
            f"{path}, line {number}: the project has no image {line.image!r}.",
            "Give image names as the project shows them (midog-qupath info).",
        )
    return line


def override_objects(
    rows: Sequence[ObjectRow],
    lines: Sequence[ObjectLine],
    mpp: MicronsPerPixel,
    relabel: Callable[[ObjectRow, str], ObjectRow],
) -> list[ObjectRow]:
    """Apply the lines of one image to its objects; ``relabel`` sets class and role.

    An object is found by its id, or as the nearest within 7.5 um of the place given.

    Raises
    ------
    DatasetError
        If a line fits no object, or two lines fit the same.
    """
    changed = list(rows)
    taken: set[int] = set()
    for line in lines:
        index = _find(rows, line, to_pixels(MATCH_RADIUS, mpp))
        if index is None or index in taken:
            place = line.source_id or f"x={line.x:g}, y={line.y:g}"
            raise DatasetError(
                f"The object table fits {'no object' if index is None else 'an object twice'}: "
                f"{line.image}, {place}.",
                "Correct the line, or remove it.",
            )
        taken.add(index)
        changed[index] = _override(rows[index], line, relabel)
    return changed


def _find(rows: Sequence[ObjectRow], line: ObjectLine, radius: float) -> int | None:
    if line.source_id is not None:
        return next((i for i, row in enumerate(rows) if row.source_id == line.source_id), None)
    x, y = line.x or 0.0, line.y or 0.0
    distances = [math.hypot(row.x - x, row.y - y) for row in rows]
    nearest = min(range(len(rows)), key=distances.__getitem__, default=None)
    return nearest if nearest is not None and distances[nearest] <= radius else None


def _override(row: ObjectRow, line: ObjectLine, relabel: Callable[[ObjectRow, str], ObjectRow]) -> ObjectRow:
    new = relabel(row, line.label) if line.label is not None else row
    given = line.model_dump(include={"case", "votes_atypical", "votes_total"}, exclude_none=True)
    return replace(new, **given)
