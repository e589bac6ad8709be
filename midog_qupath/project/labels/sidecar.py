"""Labels in the GeoJSON files beside a project; what stands there stays."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from midog_qupath.errors import GeoJsonError
from midog_qupath.files import write_bytes
from midog_qupath.project.disk import writing
from midog_qupath.project.geojson import to_feature
from midog_qupath.project.labels.points import table_rows
from midog_qupath.project.model import ImageEntry, PathObject
from midog_qupath.project.stores.sidecar import annotation_file

TABLE = "images.csv"
#: Column of the image table -> key of the image metadata.
_COLUMNS = {"case": "case", "domain": "domain", "extent": "labelled", "cell_px": "cell_px"}


def append_labels(folder: Path, entry: ImageEntry, labels: Sequence[PathObject]) -> None:
    """Add annotations to the file of an image, which is made where there is none.

    Raises
    ------
    GeoJsonError
        If the file that is there is no GeoJSON.
    SafetyError
        If it cannot be written.
    """
    features = [feature for label in labels if (feature := to_feature(label)) is not None]
    if not features:
        return
    path = annotation_file(folder, entry) or folder / f"{entry.stem}.geojson"
    with writing(path):
        raw = path.read_bytes() if path.exists() else b""
        packed = raw[:2] == b"\x1f\x8b"
        text = (gzip.decompress(raw) if packed else raw).decode("utf-8-sig")
        changed = json.dumps(_with(text, features, path), ensure_ascii=False, indent=1).encode()
        write_bytes(path, gzip.compress(changed, mtime=0) if packed else changed)


def _with(text: str, features: list[dict[str, Any]], path: Path) -> Any:
    raw = json.loads(text) if text.strip() else {"type": "FeatureCollection", "features": []}
    if isinstance(raw, list):
        return [*raw, *features]
    if isinstance(raw, dict) and isinstance(raw.get("features"), list):
        return {**raw, "features": [*raw["features"], *features]}
    if isinstance(raw, dict) and raw.get("type") == "Feature":
        return {"type": "FeatureCollection", "features": [raw, *features]}
    raise GeoJsonError(f"{path} is JSON but not GeoJSON.", "Move it away, or export it again from QuPath.")


def write_table(folder: Path, facts: Mapping[str, Mapping[str, str]]) -> Path | None:
    """Add what is known of images to ``images.csv`` of a folder, as ``export --image-table`` takes it.

    What the table says already stays. Returns the table, None where there is nothing to say.

    Raises
    ------
    LabelsError, SafetyError
        If the table that is there is none, or it cannot be written.
    """
    path = folder / TABLE
    rows = {row["image"]: row for _, row in table_rows(path)[0]} if path.exists() else {}
    for name, metadata in facts.items():
        row = {column: metadata[key] for column, key in _COLUMNS.items() if key in metadata}
        if row:
            known = {key: value for key, value in rows.get(name, {}).items() if value}
            rows[name] = {"image": name, **row, **known}
    if not rows:
        return None
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["image", *_COLUMNS], restval="", lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows.values())
    with writing(path):
        write_bytes(path, text.getvalue().encode())
    return path
