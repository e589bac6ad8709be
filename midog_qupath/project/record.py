"""Detections of earlier runs as they were written: from the runs' GeoJSON files, or from a backup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from midog_qupath.errors import SafetyError, StoreError
from midog_qupath.project.backup import all_backups, checked_record, image_names
from midog_qupath.project.geojson import read_features
from midog_qupath.project.manifest import RunManifest
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject, Project
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.objects import objects


def recorded_objects(
    project: Project, manifests: Iterable[RunManifest], entry: ImageEntry, wanted: AbstractSet[UUID]
) -> dict[UUID, PathObject]:
    """Detections ``wanted`` of an image, by id, as they were when a run of ours had written them.

    Those of which there is no record are left out; a damaged record is passed over.
    """
    found: dict[UUID, PathObject] = {}
    for manifest in manifests:
        record = manifest.image(entry.entry_id)
        if record is not None and any(written.id in wanted for written in record.objects):
            found |= _chosen(_of_sidecar(project.ours / record.sidecar), wanted)
    for backup in reversed(all_backups(project)):
        if wanted <= found.keys():
            break
        found = _chosen(_of_backup(project, entry, backup.folder), wanted) | found
    return found


def _chosen(things: Sequence[PathObject], wanted: AbstractSet[UUID]) -> dict[UUID, PathObject]:
    return {
        # QuPath may have put it below another object; ours stand under the root.
        thing.id: replace(thing, parent_id=None)
        for thing in things
        if thing.id is not None
        and thing.id in wanted
        and thing.kind is ObjectKind.DETECTION
        and thing.roi is not None
    }


def _of_sidecar(path: Path) -> Sequence[PathObject]:
    try:
        return read_features(path) if path.is_file() else ()
    except StoreError:
        return ()


def _of_backup(project: Project, entry: ImageEntry, folder: Path) -> Sequence[PathObject]:
    data = folder / image_names(project, entry)[0]
    if not data.is_file():
        return ()
    try:
        checked_record(project, [entry], folder)
        return objects(read_document(data.read_bytes()))
    except (StoreError, SafetyError, OSError):
        return ()
