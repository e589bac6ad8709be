"""Runs that a script took into an image inside QuPath, as the image's own data say.

``import_detections.groovy`` and ``detect_mitoses.groovy`` note each run that they take in, and the detections
that it replaced, in a property of the image: saved, or not, together with the objects. Without that note
nobody could tell a run of which a person deleted everything from one that never came to the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from midog_qupath.project.manifest import RunManifest
from midog_qupath.project.model import ImageEntry
from midog_qupath.project.qpdata.document import read_document, unknown
from midog_qupath.project.qpdata.values import image_properties
from midog_qupath.project.stores.base import ProjectStore

#: The property: runs, divided by commas; each followed by the ids of what it replaced, divided by blanks.
PROPERTY = "midog-qupath imported runs"


def imported_runs(data: bytes) -> dict[str, tuple[UUID, ...]]:
    """The runs that a script took into an image, by the bytes of its data file, and what each replaced.

    Raises QpdataError where the file is not understood.
    """
    noted = image_properties(read_document(data)).get(PROPERTY, "")
    runs = [line.split() for line in noted.split(",") if line.strip()]
    try:
        return {run: tuple(map(UUID, replaced)) for run, *replaced in runs}
    except ValueError as error:
        raise unknown(f"its property '{PROPERTY}' ({error})") from error


def with_imports(
    manifests: Sequence[RunManifest], entry: ImageEntry, store: ProjectStore
) -> tuple[RunManifest, ...]:
    """Manifests that say of an image what came of its sidecars: a run that was taken in counts as written.

    Raises StoreError where the image cannot be read.
    """
    beside = [one for one in manifests if (record := one.image(entry.entry_id)) and record.state == "sidecar"]
    imported = store.imported(entry) if beside else {}
    return tuple(_taken_in(manifest, entry.entry_id, imported) for manifest in manifests)


def _taken_in(manifest: RunManifest, entry_id: str, imported: Mapping[str, tuple[UUID, ...]]) -> RunManifest:
    record = manifest.image(entry_id)
    if record is None or record.state != "sidecar" or manifest.run not in imported:
        return manifest
    # What the run planned to replace may have changed until it was taken in.
    return manifest.with_image(
        record.model_copy(update={"state": "written", "removed": imported[manifest.run]})
    )
