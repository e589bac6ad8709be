"""One image of a project: its labels as rows, its labelled extent as blocks of pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from midog_qupath.dataset.areas import plan_areas
from midog_qupath.dataset.collect import (
    deleted_rows,
    image_row,
    object_rows,
    refuse_split_cases,
    relabelling,
)
from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.overrides import Overrides, override_objects
from midog_qupath.dataset.store import write_pixels
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import GroundTruth, ground_truth
from midog_qupath.project.imported import with_imports
from midog_qupath.project.manifest import RunManifest
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject
from midog_qupath.project.ours import Standing, deleted_positions
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.choose import people_objects
from midog_qupath.slides.base import Slide
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and where to.

    ``whole``: patterns of image names in which every mitosis is labelled. ``mpp``: microns per pixel for
    images that know it neither in the project nor in the file. ``force``: images coarser than 0.6 too.
    """

    folder: Path
    class_map: ClassMap = field(default_factory=ClassMap)
    ground_truth: Path | None = None
    whole: tuple[str, ...] = ()
    image_table: Path | None = None
    object_table: Path | None = None
    mpp: float | None = None
    force: bool = False
    split_seed: int = 0
    coco: bool = False


@dataclass(frozen=True)
class ExportedImage:
    """One image as it goes into a dataset; ``row`` is None where nothing is labelled."""

    row: ImageRow | None
    objects: tuple[ObjectRow, ...]
    areas: tuple[AreaRow, ...]
    ignored: Counter[str]


@dataclass(frozen=True)
class ImageReader:
    """What it takes to read the images of a project.

    ``standing`` tells whose an object is; ``runs`` are ours, ``annotated`` the entry ids of images that they
    searched, where people may have deleted detections.
    """

    store: ProjectStore
    options: ExportOptions
    overrides: Overrides
    standing: Callable[[PathObject], Standing]
    runs: tuple[RunManifest, ...]
    annotated: frozenset[str]

    def read(self, name: str, entry: ImageEntry, folder: Path, first_file: int) -> ExportedImage:
        """Rows of an image; its pixels go to ``folder`` in files numbered from ``first_file``.

        Raises
        ------
        SlideError, StoreError, GeoJsonError, ProjectError
            If this image cannot be used.
        DatasetError
            If the tables do not fit it.
        """
        things = people_objects(self.store, entry, self.options.ground_truth)
        truth = self._truth(entry, things)
        if truth.extent == "objects" and not truth.objects and entry.entry_id not in self.annotated:
            return ExportedImage(None, (), (), Counter(truth.ignored))
        with open_entry(entry) as slide:
            entry = replace(entry, width=slide.width, height=slide.height)
            truth = self._truth(entry, things)
            mpp = resolve_mpp(entry, slide, self.options.mpp, self.options.force).mpp
            row = image_row(name, entry, truth, mpp)
            objects = self._objects(row, entry, truth, things)
            areas = _write_areas(slide, plan_areas(row, objects), folder, first_file)
        ignored = Counter(truth.ignored)
        ignored["(off the image)"] = max(0, len(truth.objects) - len(objects))
        labelled = bool(objects) or truth.extent != "objects"
        return ExportedImage(row if labelled else None, objects, areas, +ignored)

    def _truth(self, entry: ImageEntry, things: Sequence[PathObject]) -> GroundTruth:
        return ground_truth(entry, things, self.options.class_map, self._teaches)

    def _teaches(self, thing: PathObject) -> bool:
        """A person's annotation, or a detection of ours that a person changed."""
        standing = self.standing(thing)
        if standing is Standing.THEIRS:
            return thing.kind is ObjectKind.ANNOTATION
        return standing is Standing.TOUCHED

    def _objects(
        self, row: ImageRow, entry: ImageEntry, truth: GroundTruth, things: Sequence[PathObject]
    ) -> tuple[ObjectRow, ...]:
        found = object_rows(row, truth.objects)
        if self.options.ground_truth is None and entry.entry_id in self.annotated:
            # GeoJSON files hold annotations only: to them every detection of ours would look deleted.
            runs = with_imports(self.runs, entry, self.store)
            gone = deleted_positions(things, runs, entry.entry_id, row.mpp)
            found += deleted_rows(row, self.options.class_map, gone)
        lines = self.overrides.objects.get(row.name, ())
        found = override_objects(found, lines, row.mpp, relabelling(self.options.class_map))
        refuse_split_cases(row, found)
        # Stores give objects in different orders; the dataset does not depend on which was taken.
        return tuple(sorted(found, key=lambda it: (it.y, it.x, it.label, it.source_id)))


def _write_areas(
    slide: Slide, planned: Iterable[AreaRow], folder: Path, first_file: int
) -> tuple[AreaRow, ...]:
    areas = tuple(
        replace(area, file=f"pixels/{number:05d}.npy") for number, area in enumerate(planned, first_file)
    )
    for area in areas:
        pixels = slide.read(area.x0, area.y0, area.width, area.height, area.downsample)
        write_pixels(folder, area, pixels)
    return areas
