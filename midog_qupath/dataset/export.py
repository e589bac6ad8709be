"""From a project to a dataset: what people drew, and the pixels of what they labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path

import midog_qupath
from midog_qupath.dataset.coco import write_coco
from midog_qupath.dataset.collect import with_overrides
from midog_qupath.dataset.folder import replacing
from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.overrides import Overrides, read_overrides
from midog_qupath.dataset.read_image import ExportOptions, ImageReader
from midog_qupath.dataset.splits import missing_splits, split_cases, tally_cases, with_splits
from midog_qupath.dataset.store import Dataset, DatasetMeta, Source, SplitSettings, write_dataset
from midog_qupath.errors import DatasetError, GeoJsonError, MidogError, ProjectError, SlideError, StoreError
from midog_qupath.progress import Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.project.ours import ours_state
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.units import COARSE_MPP
from midog_qupath.wording import listed

#: What is wrong with one image does not keep the others from being exported.
_OF_ONE_IMAGE = (SlideError, StoreError, GeoJsonError, ProjectError)


@dataclass(frozen=True)
class _Collected:
    """What came of all images."""

    images: tuple[ImageRow, ...]
    objects: tuple[ObjectRow, ...]
    areas: tuple[AreaRow, ...]
    ignored: Mapping[str, int]
    unlabelled: tuple[str, ...]
    skipped: Mapping[str, MidogError]


def export_project(
    project: Project, store: ProjectStore, options: ExportOptions, progress: Progress
) -> Dataset:
    """Write the dataset of a project; an older one in the same folder is replaced once this one is complete.

    An image that cannot be used is told and left out (``dataset.meta.skipped``), unless none can be.

    Raises
    ------
    DatasetError
        If nothing is labelled, a table does not fit, or the folder is not a dataset's.
    MidogError
        If no labelled image can be used: what is wrong with the first.
    """
    if options.ground_truth is not None and not options.ground_truth.is_dir():
        raise DatasetError(
            f"There is no folder {options.ground_truth}.", "Give the folder of <image>.geojson files."
        )
    entries = _named(project.images)
    overrides = read_overrides(options.image_table, options.object_table, entries)
    entries = _overridden(entries, overrides, options.whole)
    runs = load_manifests(project)
    reader = ImageReader(
        store=store,
        options=options,
        overrides=overrides,
        standing=ours_state(project),
        runs=runs,
        annotated=frozenset(image.entry_id for run in runs for image in run.images),
    )
    with replacing(options.folder) as new:
        found = _collect(reader, entries, new, progress)
        _refuse_nothing(project, options.class_map, found)
        images, objects = _split(found, options.split_seed, progress)
        _say_what_lacks(objects, progress)
        write_dataset(new, _meta(project, store, options, found), images, objects, found.areas)
        if options.coco:
            write_coco(Dataset.open(new), new / "coco", progress)
    return Dataset.open(options.folder)


def _collect(
    reader: ImageReader, entries: Mapping[str, ImageEntry], folder: Path, progress: Progress
) -> _Collected:
    images: list[ImageRow] = []
    objects: list[ObjectRow] = []
    areas: list[AreaRow] = []
    ignored: Counter[str] = Counter()
    unlabelled: list[str] = []
    skipped: dict[str, MidogError] = {}
    with progress.task("Export", len(entries), "images") as advance:
        for name, entry in entries.items():
            try:
                found = reader.read(name, entry, folder, first_file=len(areas))
            except _OF_ONE_IMAGE as error:
                skipped[name] = error
                progress.warn(f"Left out: {error}")
            else:
                ignored.update(found.ignored)
                areas += found.areas
                objects += found.objects
                if found.row is None:
                    unlabelled.append(name)
                else:
                    images.append(found.row)
            advance(1)
    _remove_leftovers(folder / "pixels", areas)
    return _Collected(tuple(images), tuple(objects), tuple(areas), ignored, tuple(unlabelled), skipped)


def _remove_leftovers(pixels: Path, areas: Sequence[AreaRow]) -> None:
    """Blocks of an image that turned out to be damaged further down."""
    kept = {Path(area.file).name for area in areas}
    for path in pixels.glob("*.npy"):
        if path.name not in kept:
            path.unlink()


def _refuse_nothing(project: Project, class_map: ClassMap, found: _Collected) -> None:
    if found.objects:
        return
    if found.skipped:
        raise next(iter(found.skipped.values()))
    there = listed(dict(sorted(found.ignored.items()))) or "none"
    raise DatasetError(
        f"Nothing in {project.path} is labelled {class_map.mitosis} or {class_map.non_mitosis} "
        f"(other annotations: {there}).",
        "Annotate some in QuPath and save, or say with --class-map what your classes mean.",
    )


def _split(
    found: _Collected, seed: int, progress: Progress
) -> tuple[tuple[ImageRow, ...], tuple[ObjectRow, ...]]:
    cases = tally_cases(found.images, found.objects)
    splits = split_cases(cases, seed)
    if missing := missing_splits(cases, splits):
        domains = "; ".join(f"{domain} has none in {', '.join(names)}" for domain, names in missing.items())
        progress.note(f"Too few cases for every split: {domains}.")
    return with_splits(found.images, found.objects, splits)


def _say_what_lacks(objects: Sequence[ObjectRow], progress: Progress) -> None:
    roles = {row.role for row in objects}
    if "non_mitosis" not in roles:
        progress.note("No look-alikes are labelled: training finds its own where everything is labelled.")
    if roles == {"non_mitosis"}:
        progress.warn("No mitosis is labelled: there is nothing yet to train on.")
    elif not roles >= {"normal", "atypical"}:
        progress.note("Normal and atypical are not both labelled: no classifier can be trained on this.")


def _meta(project: Project, store: ProjectStore, options: ExportOptions, found: _Collected) -> DatasetMeta:
    roles = options.class_map
    source = Source(
        project=project.folder.name, store=store.name if options.ground_truth is None else "geojson"
    )
    return DatasetMeta(
        class_map={role.name: (getattr(roles, role.name),) for role in fields(roles)},
        ignored=dict(sorted(found.ignored.items())),
        coarse=tuple(row.name for row in found.images if row.mpp > COARSE_MPP),
        unlabelled=found.unlabelled,
        skipped={name: error.what for name, error in found.skipped.items()},
        sources=(source,),
        software={"midog-qupath": midog_qupath.__version__, "pyarrow": metadata.version("pyarrow")},
        splits=SplitSettings(seed=options.split_seed),
    )


def _named(entries: Sequence[ImageEntry]) -> dict[str, ImageEntry]:
    """Entries by a name that is unique in the dataset: the image's, with its id where two share one."""
    counts = Counter(entry.name for entry in entries)
    return {
        entry.name if counts[entry.name] == 1 else f"{entry.name}-{entry.entry_id}": entry
        for entry in entries
    }


def _overridden(
    entries: Mapping[str, ImageEntry], overrides: Overrides, whole: Sequence[str]
) -> dict[str, ImageEntry]:
    for pattern in whole:
        if not any(fnmatchcase(name, pattern) for name in entries):
            raise DatasetError(
                f"--whole {pattern!r} fits no image.", "Give names as the project shows them, * for any part."
            )
    return {
        name: with_overrides(
            entry, overrides.images.get(name), any(fnmatchcase(name, pattern) for pattern in whole)
        )
        for name, entry in entries.items()
    }
