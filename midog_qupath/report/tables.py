"""The tables of the page: images, all detections, evaluations that were saved before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import shapely

from midog_qupath.project.cases import image_case, image_domain
from midog_qupath.project.manifest import RunManifest
from midog_qupath.project.model import ImageEntry
from midog_qupath.report.gather import Material
from midog_qupath.report.page import Cell, Column, Table

_COUNTED = (("TP", 0), ("FP", 0), ("FN", 0), ("precision", 3), ("recall", 3), ("F1", 3))


def images_table(material: Material) -> Table | None:
    """One row an image that the run searched or that was measured; None without any."""
    run, measured = material.subject.run, material.measured
    ids = [image.entry_id for image in run.images] if run else list(measured.counts if measured else ())
    columns = [Column("image"), Column("domain"), Column("case"), Column("µm/px", 4)]
    if run is not None:
        columns += [Column("mm²", 3), Column("detections", 0), Column("per mm²", 1)]
        columns += [Column("normal", 0), Column("atypical", 0), Column("reviewed", 0)]
    if measured is not None:
        columns += [Column(head, digits) for head, digits in _COUNTED]
    rows = tuple(_image_row(material, entry_id) for entry_id in ids)
    return Table("images", "Images", tuple(columns), rows) if rows else None


def _image_row(material: Material, entry_id: str) -> tuple[Cell, ...]:
    entry = material.entries.get(entry_id)
    named = (entry.name, image_domain(entry), image_case(entry)) if entry else (entry_id, None, None)
    mpp = material.mpp.get(entry_id)
    row: list[Cell] = [*named, mpp]
    if material.subject.run is not None:
        row += _found(material, material.subject.run, entry_id)
    if material.measured is not None:
        row += _counts(material, entry_id)
    return tuple(row)


def _found(material: Material, run: RunManifest, entry_id: str) -> list[Cell]:
    record = run.image(entry_id)
    assert record is not None
    mm2 = float(shapely.from_wkt(record.area).area) * (record.mpp / 1000) ** 2
    roles = material.found.roles.get(entry_id)
    if roles is None:
        return [mm2, None, None, None, None, None]
    reviewed = material.reviewed.get(entry_id) if material.reviewed is not None else None
    density = len(roles) / mm2 if mm2 else None
    return [mm2, len(roles), density, roles.count("normal"), roles.count("atypical"), reviewed]


def _counts(material: Material, entry_id: str) -> list[Cell]:
    counts = material.measured.counts.get(entry_id) if material.measured else None
    if counts is None:
        return [None] * len(_COUNTED)
    figures = counts.tp + counts.fn
    return [
        counts.tp,
        counts.fp,
        counts.fn,
        counts.precision if counts.tp + counts.fp else None,
        counts.recall if figures else None,
        counts.f1 if figures else None,
    ]


def detections_table(material: Material) -> Table | None:
    """One row a detection, image by image; None where no run is reported."""
    if material.subject.run is None:
        return None
    entries: Mapping[str, ImageEntry] = material.entries
    rows = tuple(
        (
            entries[spot.entry_id].name if spot.entry_id in entries else spot.entry_id,
            spot.label,
            spot.certainty,
            spot.atypical,
            round(spot.x, 1),
            round(spot.y, 1),
        )
        for spot in material.found.all()
    )
    columns = (
        Column("image"),
        Column("class"),
        Column("mitosis probability", 3),
        Column("atypical probability", 3),
        Column("x (px)", 1),
        Column("y (px)", 1),
    )
    return Table("detections", "All detections", columns, rows, place=(0, 4, 5))


def saved_evaluations(folder: Path) -> tuple[Table, ...]:
    """What ``evaluate`` saved beside a model: a table a file, files of other forms left out."""
    tables = []
    for number, file in enumerate(sorted(folder.glob("evaluation-*.json"))):
        try:
            detection = orjson.loads(file.read_bytes())["detection"]
            rows = [_saved_row("pooled", detection["pooled"])]
            rows += [_saved_row(name, row) for name, row in detection["per_domain"].items()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        columns = (Column("domain"), *(Column(head, digits) for head, digits in _COUNTED))
        tables.append(Table(f"saved-{number}", f"Evaluation saved as {file.name}", columns, tuple(rows)))
    return tuple(tables)


def _saved_row(name: str, row: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (name, *(row[key] for key in ("tp", "fp", "fn", "precision", "recall", "f1")))
