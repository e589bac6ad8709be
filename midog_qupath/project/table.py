"""Detections of a run as a table: ``detections.csv`` and ``detections.parquet``, one row a detection."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import shapely

from midog_qupath import files
from midog_qupath.errors import EvaluationError
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.cases import image_case, image_domain, image_region_type
from midog_qupath.project.disk import writing
from midog_qupath.project.geojson import read_features
from midog_qupath.project.imported import with_imports
from midog_qupath.project.manifest import ImageRecord, RunManifest, load_manifests
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.ours import Standing, ours_state
from midog_qupath.project.shapes import centre
from midog_qupath.project.stores.base import ProjectStore

CSV_FILE, PARQUET_FILE = "detections.csv", "detections.parquet"
#: Columns and their Arrow types; names say the unit.
COLUMNS = {
    "image": "string", "entry_id": "string", "domain": "string", "case": "string", "region_type": "string",
    "id": "string", "class": "string", "class_now": "string",
    "mitosis_probability": "double", "atypical_probability": "double",
    "x_px": "double", "y_px": "double", "x_um": "double", "y_um": "double",
    "mpp_um": "double", "area_um2": "double",
    "reviewed": "bool", "state": "string", "run": "string", "model": "string",
}  # fmt: skip


def write_run_table(
    project: Project, run: str, store: ProjectStore | None = None, progress: Progress = SILENT
) -> Path:
    """Write both files beside the GeoJSON files of a run; returns the folder.

    ``x``, ``y``: centre of the bounding box. ``class``: as found. With a ``store``, ``class_now`` (empty if
    it is gone), ``reviewed`` and ``state`` say what became of it since: ``written``; ``left out`` (beside
    what a person kept or deleted); ``beside`` (in the GeoJSON file only); ``deleted`` by a person;
    ``replaced`` by a later run.

    Raises
    ------
    EvaluationError
        If the project has no such run; other MidogErrors where its files cannot be read.
    """
    manifests = {manifest.run: manifest for manifest in load_manifests(project)}
    if run not in manifests:
        known = ", ".join(manifests) or "none"
        raise EvaluationError(f"{project.path} has no run {run}.", f"Give one of these: {known}.")
    rows = list(_rows(project, list(manifests.values()), run, store, progress))
    folder = project.ours / "detections" / run
    _write(folder, rows)
    return folder


def _rows(
    project: Project,
    manifests: Sequence[RunManifest],
    run: str,
    store: ProjectStore | None,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    standing = ours_state(project) if store is not None else None
    entries = {entry.entry_id: entry for entry in project.images}
    manifest = next(one for one in manifests if one.run == run)
    with progress.task("reading", len(manifest.images), "images") as advance:
        for image in manifest.images:
            record, entry = image, entries.get(image.entry_id)
            now, replaced = None, frozenset[UUID]()
            if store is not None and entry is not None:
                now = {one.id: one for one in store.read(entry)}
                record, replaced = _as_taken_in(with_imports(manifests, entry, store), run, image)
            added = {written.id for written in record.objects}
            for found in read_features(project.ours / record.sidecar):
                state = _state(record, found.id in added)
                row = {**_row(found, record, entry), "state": state}
                if now is not None and standing is not None and state == "written":
                    current = now.get(found.id)
                    row |= _as_it_is(current, standing(current) if current else None, found.id in replaced)
                yield {**row, "run": run, "model": manifest.model}
            advance(1)


def _as_taken_in(
    manifests: Sequence[RunManifest], run: str, record: ImageRecord
) -> tuple[ImageRecord, frozenset[UUID]]:
    """The record of a run by manifests that know of imports, and what other runs took out of its image."""
    records = {one.run: found for one in manifests if (found := one.image(record.entry_id))}
    replaced = frozenset(gone for name, other in records.items() if name != run for gone in other.removed)
    return records[run], replaced


def _state(record: ImageRecord, added: bool) -> str:
    if not added:
        return "left out"
    return "beside" if record.state == "sidecar" else "written"


def _row(found: PathObject, record: ImageRecord, entry: ImageEntry | None) -> dict[str, Any]:
    x, y = centre(found)
    area = float(shapely.area(found.roi.geometry)) if found.roi else 0.0
    return {
        "image": record.name,
        "entry_id": record.entry_id,
        "domain": image_domain(entry) if entry else None,
        "case": image_case(entry) if entry else None,
        "region_type": image_region_type(entry) if entry else None,
        "id": str(found.id),
        "class": found.class_name,
        "class_now": found.class_name,
        "mitosis_probability": found.measurements.get("Mitosis probability"),
        "atypical_probability": found.measurements.get("Atypical probability"),
        "x_px": round(x, 2),
        "y_px": round(y, 2),
        "x_um": round(x * record.mpp, 3),
        "y_um": round(y * record.mpp, 3),
        "mpp_um": record.mpp,
        "area_um2": round(area * record.mpp**2, 3),
        "reviewed": False,
    }


def _as_it_is(current: PathObject | None, standing: Standing | None, replaced: bool) -> dict[str, Any]:
    if current is None:
        state = "replaced" if replaced else "deleted"
        return {"class_now": None, "reviewed": not replaced, "state": state}
    return {"class_now": current.class_name, "reviewed": standing is Standing.TOUCHED}


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import compute, csv, parquet

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    table = pa.Table.from_pylist(rows, schema=schema)
    as_csv, as_parquet = io.BytesIO(), io.BytesIO()
    # R takes true and false for words; TRUE and FALSE are logical to R, pandas and spreadsheets.
    said = compute.if_else(table["reviewed"], "TRUE", "FALSE")
    csv.write_csv(table.set_column(table.column_names.index("reviewed"), "reviewed", said), as_csv)
    parquet.write_table(table, as_parquet)
    for name, data in ((CSV_FILE, as_csv), (PARQUET_FILE, as_parquet)):
        with writing(folder / name):
            files.write_bytes(folder / name, data.getvalue())
