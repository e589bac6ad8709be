"""The sidecar store: GeoJSON files beside the project, the project itself untouched.

Annotations come from files that ``groovy/export_ground_truth.groovy`` wrote (or any QuPath export); our
detections stand in ``midog-qupath/sidecar/<image>.geojson``, from which
``groovy/import_detections.groovy`` takes them into QuPath.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from midog_qupath.errors import StoreError
from midog_qupath.project.classes_file import ensure_classes
from midog_qupath.project.geojson import read_features, write_features
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project
from midog_qupath.project.stores.base import Edit


class SidecarStore:
    """Annotations from a folder of GeoJSON, our detections in another.

    ``ground_truth``: folder of the annotations, ``midog-qupath/ground-truth`` if None.
    """

    name = "sidecar"
    writes_project = False

    def __init__(self, project: Project, ground_truth: Path | None = None) -> None:
        if ground_truth is not None and not ground_truth.is_dir():
            raise StoreError(
                f"There is no folder {ground_truth}.", "Give the folder that holds <image>.geojson files."
            )
        self._project = project
        self._truth = ground_truth or project.ours / "ground-truth"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        return None

    def read(self, entry: ImageEntry) -> list[PathObject]:
        """See :meth:`ProjectStore.read`: people's objects, then our detections."""
        return [*self._people(entry), *self._ours(entry)]

    def fingerprint(self, entry: ImageEntry) -> str:
        """SHA-256 over both files of the image."""
        digest = hashlib.sha256()
        for path in (self._truth / f"{entry.stem}.geojson", self._file(entry)):
            digest.update(path.read_bytes() if path.is_file() else b"\0")
        return digest.hexdigest()

    def ensure_classes(self, classes: Sequence[PathClass]) -> None:
        """See :meth:`ProjectStore.ensure_classes`: ``classes.json`` holds no objects."""
        ensure_classes(self._project, classes)

    def apply(self, entry: ImageEntry, edit: Edit) -> None:
        """See :meth:`ProjectStore.apply`; only the file of our detections changes."""
        if self.fingerprint(entry) != edit.expected:
            raise StoreError(
                f"{entry.name} was changed by somebody else since it was read.", "Run this again."
            )
        current = self._ours(entry)
        known = {thing.id for thing in current}
        if missing := edit.remove - known:
            raise StoreError(
                f"{entry.name}: {len(missing)} detections to remove are not in its sidecar file.",
                "Run this again.",
            )
        kept = [thing for thing in current if thing.id not in edit.remove]
        try:
            write_features(self._file(entry), [*kept, *edit.add])
        except OSError as error:
            raise StoreError(
                f"{self._file(entry)} cannot be written ({error.strerror or error}).",
                "Check free space and permissions.",
            ) from error

    def _file(self, entry: ImageEntry) -> Path:
        return self._project.ours / "sidecar" / f"{entry.stem}.geojson"

    def _people(self, entry: ImageEntry) -> list[PathObject]:
        path = self._truth / f"{entry.stem}.geojson"
        return read_features(path) if path.is_file() else []

    def _ours(self, entry: ImageEntry) -> list[PathObject]:
        path = self._file(entry)
        if not path.is_file():
            return []
        return [thing for thing in read_features(path) if thing.kind is ObjectKind.DETECTION]
