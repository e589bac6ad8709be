"""``imports/<time>.json``: which labels an import put into which image.

So that a label that a person deleted does not come back when the same file is imported again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from midog_qupath.errors import SafetyError
from midog_qupath.files import write_bytes
from midog_qupath.project.disk import writing
from midog_qupath.project.model import Project


class ImportRecord(BaseModel):
    """One import: ids of the labels by entry id. ``time`` names the backup that was made before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    time: str
    source: str
    images: dict[str, tuple[UUID, ...]]


def save_import(project: Project, record: ImportRecord) -> None:
    """Write a record, whole or not at all. Raises SafetyError when the disk refuses."""
    path = _folder(project) / f"{record.time}.json"
    with writing(path):
        write_bytes(path, record.model_dump_json(indent=1).encode())


def imported_labels(project: Project) -> dict[str, frozenset[UUID]]:
    """Ids of all labels that were ever put into an image, by entry id.

    Raises SafetyError for a damaged record.
    """
    found: dict[str, frozenset[UUID]] = {}
    for record in _records(project):
        for entry_id, labels in record.images.items():
            found[entry_id] = found.get(entry_id, frozenset()).union(labels)
    return found


def forget_imports(project: Project, since: str, entry_ids: Iterable[str]) -> None:
    """Images are as they were at a time again: what came into them since was not deleted by a person.

    Raises SafetyError for a damaged record, or when the disk refuses.
    """
    back = set(entry_ids)
    for record in _records(project):
        if record.time >= since and back.intersection(record.images):
            save_import(project, record.model_copy(update={"images": _without(record.images, back)}))


def _without(images: Mapping[str, tuple[UUID, ...]], back: set[str]) -> dict[str, tuple[UUID, ...]]:
    return {entry_id: labels for entry_id, labels in images.items() if entry_id not in back}


def _folder(project: Project) -> Path:
    return project.ours / "imports"


def _records(project: Project) -> list[ImportRecord]:
    return [_load(path) for path in sorted(_folder(project).glob("*.json"))]


def _load(path: Path) -> ImportRecord:
    try:
        return ImportRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SafetyError(
            f"{path} is damaged or from a newer version ({reason}): it tells which labels were imported.",
            "Restore it from a copy; or move it away, and labels of that import that a person deleted may "
            "come back.",
        ) from error
