"""The sidecar store: GeoJSON files beside the project, the project itself untouched.

People's objects come from files that ``groovy/export_ground_truth.groovy`` wrote (or any QuPath export). Our
detections stand in ``midog-qupath/sidecar/<image>.geojson``; ``groovy/import_detections.groovy`` takes those
of a run into QuPath.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from uuid import UUID

from midog_qupath.errors import GeoJsonError, StoreError
from midog_qupath.project.classes_file import ensure_classes
from midog_qupath.project.geojson import read_about, read_features, write_features
from midog_qupath.project.geometry import on_grid
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
        """See :meth:`ProjectStore.read`: people's objects, then our detections.

        One of ours that QuPath exported too, because a person changed it, is taken as it was exported.
        """
        people = read_annotations(self._truth, entry)
        known = {thing.id for thing in people}
        return [*people, *(thing for thing in self._ours(entry) if thing.id not in known)]

    def imported(self, entry: ImageEntry) -> Mapping[str, tuple[UUID, ...]]:
        """See :meth:`ProjectStore.imported`: what was done inside QuPath is not seen from here."""
        return {}

    def fingerprint(self, entry: ImageEntry) -> str:
        """SHA-256 over both files of the image."""
        digest = hashlib.sha256()
        for path in (annotation_file(self._truth, entry), self._file(entry)):
            digest.update(b"\0")
            try:
                digest.update(path.read_bytes() if path is not None and path.is_file() else b"")
            except OSError as error:
                raise StoreError(f"{path} cannot be read: {error}.", "Check the file.") from error
        return digest.hexdigest()

    def ensure_classes(self, classes: Sequence[PathClass]) -> None:
        """See :meth:`ProjectStore.ensure_classes`: ``classes.json`` holds no objects."""
        ensure_classes(self._project, classes)

    def apply(self, entry: ImageEntry, edit: Edit) -> str:
        """See :meth:`ProjectStore.apply`; only the file of our detections changes."""
        if all(image.entry_id != entry.entry_id for image in self._project.images):
            raise StoreError(f"{entry.name} is not in {self._project.path}.", "Open the project anew.")
        if edit.labels:
            raise StoreError(
                f"{entry.name}: annotations do not belong among our detections.",
                "Use midog-qupath import-labels --store sidecar.",
            )
        if self.fingerprint(entry) != edit.expected:
            raise StoreError(
                f"{entry.name} was changed by somebody else since it was read.", "Run this again."
            )
        current = self._ours(entry)
        if missing := edit.remove - {thing.id for thing in current}:
            raise StoreError(
                f"{entry.name}: {len(missing)} detections to remove are not in {self._file(entry)}.",
                "Run this again.",
            )
        stays = [thing for thing in self.read(entry) if thing.id not in edit.remove]
        _require_new_detections(entry, edit, {thing.id for thing in stays})
        kept = [thing for thing in current if thing.id not in edit.remove]
        try:
            write_features(self._file(entry), [*kept, *edit.add])
        except GeoJsonError as error:
            raise StoreError(f"{entry.name}: {error.what}", error.remedy) from error
        except OSError as error:
            raise StoreError(
                f"{self._file(entry)} cannot be written ({error.strerror or error}).",
                "Check free space and permissions.",
            ) from error
        return self.fingerprint(entry)

    def _file(self, entry: ImageEntry) -> Path:
        return self._project.ours / "sidecar" / f"{entry.stem}.geojson"

    def _ours(self, entry: ImageEntry) -> list[PathObject]:
        path = self._file(entry)
        return _features(path) if path.is_file() else []


def annotation_file(folder: Path, entry: ImageEntry) -> Path | None:
    """The GeoJSON file of an image in a folder of annotations, plain or packed, or None."""
    paths = (folder / f"{entry.stem}{ending}" for ending in (".geojson", ".geojson.gz"))
    return next((path for path in paths if path.is_file()), None)


def read_annotations(folder: Path, entry: ImageEntry) -> list[PathObject]:
    """People's objects of an image from a folder of GeoJSON files; none where it has no file.

    Raises
    ------
    StoreError
        If the file is broken, or says that it belongs to an image of another size.
    """
    path = annotation_file(folder, entry)
    if path is None:
        return []
    things = _features(path)
    _require_size(path, entry)
    return things


def _require_size(path: Path, entry: ImageEntry) -> None:
    """Refuse a file that export_ground_truth.groovy wrote for an image of another size."""
    try:
        about = read_about(path)
    except GeoJsonError as error:
        raise StoreError(error.what, error.remedy) from error
    said, known = (about.get("width"), about.get("height")), (entry.width, entry.height)
    if None not in (*said, *known) and said != known:
        raise StoreError(
            f"{path} is of an image of {said[0]} x {said[1]} px, {entry.name} has {known[0]} x {known[1]}.",
            "Run export_ground_truth.groovy on this image again.",
        )


def _features(path: Path) -> list[PathObject]:
    try:
        return read_features(path)
    except GeoJsonError as error:
        raise StoreError(error.what, error.remedy) from error


def _require_new_detections(entry: ImageEntry, edit: Edit, stays: set[UUID | None]) -> None:
    for thing in edit.add:
        if thing.kind is not ObjectKind.DETECTION or thing.id is None or thing.id in stays:
            raise StoreError(f"{entry.name}: object {thing.id} is no new detection.", "Run this again.")
        if thing.roi is None or on_grid(thing.roi.geometry) is None:
            raise StoreError(f"{entry.name}: detection {thing.id} has no outline.", "Run this again.")
