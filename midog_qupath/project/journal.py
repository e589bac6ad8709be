"""The manifest of the run that is under way, on disk at every moment."""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import numpy as np
import shapely

from midog_qupath.project.manifest import (
    ImageRecord,
    RunManifest,
    WrittenObject,
    load_manifests,
    save_manifest,
)
from midog_qupath.project.model import PathObject, Project
from midog_qupath.project.ours import replaces
from midog_qupath.project.run import RunInfo, empty_manifest


class Journal:
    """Keeps the manifest of one run true while images are written, beside those of the other runs.

    A manifest of the same run that is there already is of a run that was cut short: it is continued.
    """

    def __init__(self, project: Project, run: RunInfo, store: str, keep: bool) -> None:
        self._project = project
        known = load_manifests(project)
        self._others = tuple(manifest for manifest in known if manifest.run != run.run)
        cut_short = next((manifest for manifest in known if manifest.run == run.run), None)
        self._found = cut_short or empty_manifest(run, store, keep)
        self._manifest = self._found
        self._save()

    @property
    def manifests(self) -> tuple[RunManifest, ...]:
        """All manifests of the project, this run's last."""
        return (*self._others, self._manifest)

    @property
    def run(self) -> str:
        """The id of this run."""
        return self._manifest.run

    @property
    def keep(self) -> bool:
        """Whether detections of earlier runs stay."""
        return self._manifest.keep

    def begin(self, record: ImageRecord, present: Container[UUID | None]) -> None:
        """Say what is about to be done to an image in which the objects ``present`` stand."""
        earlier = self._found.image(record.entry_id)
        if earlier is not None and replaces(earlier, present):
            objects = {written.id: written for written in (*earlier.objects, *record.objects)}
            added = {written.id for written in record.objects}
            removed = {*earlier.removed, *record.removed} - added
            record = record.model_copy(
                update={"objects": tuple(objects.values()), "removed": tuple(sorted(removed))}
            )
        self._put(record)

    def done(self, entry_id: str, state: Literal["written", "sidecar"]) -> None:
        """Say that an image was written and read back: in the project, or by a store beside it."""
        record = self._manifest.image(entry_id)
        if record is not None:
            self._put(record.model_copy(update={"state": state}))

    def left(self, record: ImageRecord) -> None:
        """Say that an image stays as it is: its detections stand in the sidecar only."""
        earlier = self._found.image(record.entry_id)
        unfinished = earlier is not None and earlier.state != "sidecar"
        self._put(earlier if earlier and unfinished else record.model_copy(update={"state": "sidecar"}))

    def finish(self) -> None:
        """Say that the run came to its end."""
        finished = datetime.now().astimezone().isoformat(timespec="seconds")
        self._manifest = self._manifest.model_copy(update={"finished": finished})
        self._save()

    def _put(self, record: ImageRecord) -> None:
        self._manifest = self._manifest.with_image(record)
        self._save()

    def _save(self) -> None:
        save_manifest(self._project, self._manifest)


def written_objects(items: Sequence[PathObject]) -> tuple[WrittenObject, ...]:
    """What a manifest keeps of new detections of ours, in order."""
    outlines = [item.roi.geometry if item.roi is not None else None for item in items]
    found = np.array([*outlines, None], dtype=object)[:-1]
    middles = shapely.bounds(found).reshape(-1, 2, 2).mean(axis=1).tolist()
    # New outlines lie on a grid of 0.01 px.
    texts = shapely.to_wkt(found, rounding_precision=2).tolist()
    return tuple(
        _written_object(item, x, y, text) for item, (x, y), text in zip(items, middles, texts, strict=True)
    )


def _written_object(item: PathObject, x: float, y: float, outline: str) -> WrittenObject:
    if item.id is None or item.roi is None or item.class_name is None:
        raise ValueError("a detection of ours has an id, a region of interest and a class")
    return WrittenObject(id=item.id, class_name=item.class_name, x=x, y=y, outline=outline)
