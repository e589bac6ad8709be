"""What is known of images beyond their labels: domain, case, extent; from a CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from midog_qupath.errors import LabelsError
from midog_qupath.project.labels.points import table_rows

_OURS = ("image", "case", "domain", "extent", "cell_px")
_EXTENTS = ("whole", "regions", "objects")
#: The columns of MIDOG's table that make a domain, and the one that names the slide.
_MIDOG = ("Tumor", "Scanner")
_SLIDE = "Slide"


@dataclass(frozen=True)
class ImageFacts:
    """One line: the image's name as written, and the image metadata that it gives.

    ``complete``: where such an image has labels, all its mitotic figures are labelled.
    """

    image: str
    metadata: Mapping[str, str]
    complete: bool = False


def read_image_table(path: Path) -> tuple[ImageFacts, ...]:
    """A table of images, ours (``image[,case,domain,extent,cell_px]``) or MIDOG's (``Slide;...;Scanner``).

    Of MIDOG's table the domain is tumour type and scanner, the case the slide. Its slides are those of which
    every mitotic figure is labelled; a slide without a label in the file at hand is unknown all the same.

    Raises
    ------
    LabelsError
        If it cannot be read, has other columns, an image twice, or an extent or cell size that is none.
    """
    rows, headings = table_rows(path)
    if _SLIDE in headings and set(_MIDOG) <= set(headings):
        facts = tuple(ImageFacts(row[_SLIDE], _of_midog(row), complete=True) for _, row in rows)
    elif "image" in headings and set(headings) <= set(_OURS):
        facts = tuple(ImageFacts(row["image"], _of_ours(path, number, row)) for number, row in rows)
    else:
        raise LabelsError(
            f"{path} has the columns {', '.join(headings) or 'none'}.",
            f"Give {', '.join(_OURS)} (image and at least one more), or MIDOG's own table.",
        )
    _require_names(path, facts)
    return facts


def _of_midog(row: Mapping[str, str]) -> dict[str, str]:
    # One scanner is spelt in two ways in MIDOG's table; it must not become two domains.
    parts = [row[column].replace("Hamammatsu", "Hamamatsu") for column in _MIDOG]
    return {"domain": ", ".join(part for part in parts if part), "case": row[_SLIDE]}


def _of_ours(path: Path, number: int, row: Mapping[str, str]) -> dict[str, str]:
    extent, cell = row.get("extent", ""), row.get("cell_px", "")
    if extent and extent not in _EXTENTS:
        raise LabelsError(
            f"{path}, line {number}: the extent is {extent!r}.", f"Write {', '.join(_EXTENTS)} or nothing."
        )
    if cell and (not cell.isdecimal() or int(cell) == 0):
        raise LabelsError(f"{path}, line {number}: cell_px is {cell!r}.", "Write whole pixels.")
    named = {"labelled" if key == "extent" else key: row.get(key, "") for key in _OURS[1:]}
    return {key: value for key, value in named.items() if value}


def _require_names(path: Path, facts: tuple[ImageFacts, ...]) -> None:
    if not facts:
        raise LabelsError(f"{path} holds no images.", "Give one line an image below the header.")
    seen: set[str] = set()
    for fact in facts:
        if not fact.image:
            raise LabelsError(f"{path} has a line without an image.", "Fill it in, or remove the line.")
        if fact.image in seen:
            raise LabelsError(f"{path} names the image {fact.image} twice.", "Keep one line for each image.")
        seen.add(fact.image)
