"""A project's ground truth as a training dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import shapely
from shapely.geometry.base import BaseGeometry

import midog_qupath
from midog_qupath.dataset.areas import plan_areas
from midog_qupath.dataset.coco import write_coco
from midog_qupath.dataset.folder import replacing
from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.overrides import ImageLine, Overrides, override_objects, read_overrides
from midog_qupath.dataset.splits import split_cases, tally_cases, with_splits
from midog_qupath.dataset.store import (
    Dataset,
    DatasetMeta,
    Source,
    SplitSettings,
    write_dataset,
    write_pixels,
)
from midog_qupath.errors import DatasetError, MidogError
from midog_qupath.progress import Progress
from midog_qupath.project.cases import object_case
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import GroundTruth, LabelledObject, ground_truth
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject, Project
from midog_qupath.project.ours import Standing, deleted_positions, ours_state
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.choose import people_objects
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.units import MicronsPerPixel

_ATYPICAL_VOTES, _VOTES = "Atypical votes", "Votes"


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how. ``whole``: patterns of names of images in which every mitosis is labelled."""

    output: Path
    class_map: ClassMap = ClassMap()
    ground_truth: Path | None = None
    whole: tuple[str, ...] = ()
    image_table: Path | None = None
    object_table: Path | None = None
    mpp: float | None = None
    force: bool = False
    split_seed: int = 0
    coco: bool = False


@dataclass(frozen=True)
class ExportReport:
    """The dataset, annotations left out by class, and images that could not be exported with the reason."""

    dataset: Dataset
    ignored: Mapping[str, int]
    skipped: Mapping[str, MidogError]


@dataclass(frozen=True)
class _ImageExport:
    image: ImageRow
    objects: list[ObjectRow]
    areas: list[AreaRow]
    coarse: bool


def export_project(
    project: Project, store: ProjectStore, options: ExportOptions, progress: Progress
) -> ExportReport:
    """Write the labels and the pixels of every labelled extent into a dataset folder.

    The folder is replaced as a whole when everything is written. Images that cannot be read are left out
    and reported.

    Raises
    ------
    DatasetError
        If nothing that concerns us is labelled, or a table does not fit the project.
    """
    overrides = read_overrides(options.image_table, options.object_table, [e.name for e in project.images])
    teaches = _teacher(project)
    exported: list[_ImageExport] = []
    skipped: dict[str, MidogError] = {}
    ignored: Counter[str] = Counter()
    with replacing(options.output) as folder:
        with progress.task("exporting", len(project.images), "images") as advance:
            for entry in project.images:
                try:
                    found = _export_image(project, store, entry, options, overrides, teaches, folder, ignored)
                except DatasetError:
                    raise
                except MidogError as error:
                    skipped[entry.name] = error
                else:
                    exported.extend(found)
                advance(1)
        if not any(one.objects for one in exported):
            raise DatasetError(*_nothing(ignored, skipped, options.class_map))
        _write(folder, project, store, exported, ignored, options)
        dataset = Dataset.open(folder)
        if options.coco:
            write_coco(dataset, folder / "coco", progress)
    return ExportReport(Dataset.open(options.output), dict(ignored), skipped)


def _nothing(
    ignored: Mapping[str, int], skipped: Mapping[str, MidogError], class_map: ClassMap
) -> tuple[str, str]:
    if ignored:
        names = ", ".join(sorted(ignored))
        return (
            f"No annotation has a class that concerns us; the project uses {names}.",
            "Tell which class means what, e.g. --class-map mitosis='Mitotic figure'.",
        )
    if skipped:
        name, error = next(iter(skipped.items()))
        return f"None of the {len(skipped)} images could be exported; {name}: {error.what}", error.remedy
    return (
        "Nothing is labelled in this project.",
        f"Draw mitoses in QuPath with the class {class_map.mitosis!r}, save, and export again.",
    )


def _teacher(project: Project) -> Callable[[PathObject], bool]:
    """What counts as ground truth: people's annotations, and detections of ours that a person touched."""
    standing = ours_state(project)

    def teaches(thing: PathObject) -> bool:
        whose = standing(thing)
        drawn = thing.kind is ObjectKind.ANNOTATION and whose is Standing.THEIRS
        return drawn or whose is Standing.TOUCHED

    return teaches


def _export_image(
    project: Project,
    store: ProjectStore,
    entry: ImageEntry,
    options: ExportOptions,
    overrides: Overrides,
    teaches: Callable[[PathObject], bool],
    folder: Path,
    ignored: Counter[str],
) -> list[_ImageExport]:
    """The image's rows, its pixels written; nothing for an image in which nothing is labelled.

    ``ignored`` counts the annotations left out, of that image too.
    """
    things = people_objects(store, entry, options.ground_truth)
    line = overrides.images.get(entry.name, ImageLine(image=entry.name))
    told = _told(entry, line)
    whole = any(fnmatch(entry.name, pattern) for pattern in options.whole)
    truth = ground_truth(told, things, options.class_map, teaches, whole)
    ignored.update(truth.ignored)
    if not truth.objects and truth.extent == "objects":
        return []
    with open_entry(entry) as slide:
        resolved = resolve_mpp(entry, slide, options.mpp, options.force)
        image = _image_row(told, truth, slide.width, slide.height, resolved.mpp)
        rows = [_object_row(image, thing) for thing in truth.objects]
        rows += _rejected(project, entry, things, image, options.class_map, resolved.mpp)
        relabel = _relabel(options.class_map)
        rows = override_objects(rows, overrides.objects.get(entry.name, ()), resolved.mpp, relabel)
        areas = list(_with_files(image.name, plan_areas(image, rows)))
        for area in areas:
            pixels = slide.read(area.x0, area.y0, area.width, area.height, area.downsample)
            write_pixels(folder, area, pixels)
    return [_ImageExport(image, rows, areas, resolved.coarse)]


def _told(entry: ImageEntry, line: ImageLine) -> ImageEntry:
    """The entry with what the image table says in place of its metadata."""
    given = {"case": line.case, "domain": line.domain, "labelled": line.extent}
    said = {key: value for key, value in given.items() if value is not None}
    if line.cell_px is not None:
        said["cell_px"] = str(line.cell_px)
    return replace(entry, metadata={**entry.metadata, **said})


def _image_row(
    entry: ImageEntry, truth: GroundTruth, width: int, height: int, mpp: MicronsPerPixel
) -> ImageRow:
    # By stem: two images of one name stay apart.
    border = shapely.box(0, 0, width, height)
    regions = shapely.intersection(truth.regions, border) if truth.regions is not None else None
    area: BaseGeometry | None = border if truth.extent == "whole" else regions
    cell = entry.metadata.get("cell_px")
    return ImageRow(
        name=entry.stem,
        case=entry.metadata.get("case") or entry.stem,
        domain=entry.metadata.get("domain") or "unknown",
        width=width,
        height=height,
        mpp=mpp,
        extent=truth.extent,
        cell_px=_cell_px(entry, cell) if cell else None,
        region_polygons=shapely.to_wkb(regions) if regions is not None else None,
        labelled_mm2=area.area * (mpp / 1000) ** 2 if area is not None else 0.0,
        split="train",
    )


def _cell_px(entry: ImageEntry, text: str) -> int:
    if not text.isdigit() or not int(text):
        raise DatasetError(f"{entry.name}: its metadata say cell_px = {text!r}.", "Write whole pixels there.")
    return int(text)


def _object_row(image: ImageRow, thing: LabelledObject) -> ObjectRow:
    votes, total = thing.measurements.get(_ATYPICAL_VOTES), thing.measurements.get(_VOTES)
    polygon = shapely.to_wkb(thing.geometry) if thing.geometry is not None else None
    role = thing.role
    assert role != "region"
    return ObjectRow(
        image=image.name,
        case=object_case(image.case, thing.name, image.cell_px is not None),
        domain=image.domain,
        label=thing.label,
        role=role,
        x=thing.x,
        y=thing.y,
        shape=str(thing.kind.value),
        polygon=polygon,
        votes_atypical=int(votes) if votes is not None and total else None,
        votes_total=int(total) if total else None,
        cell=_cell(image, thing.x, thing.y),
        split="train",
        source_id=thing.source_id,
    )


def _cell(image: ImageRow, x: float, y: float) -> int | None:
    if image.cell_px is None:
        return None
    columns = -(-image.width // image.cell_px)
    return int(y // image.cell_px) * columns + int(x // image.cell_px)


def _rejected(
    project: Project,
    entry: ImageEntry,
    things: list[PathObject],
    image: ImageRow,
    class_map: ClassMap,
    mpp: MicronsPerPixel,
) -> Iterator[ObjectRow]:
    """Detections of ours that a person deleted: look-alikes, as points."""
    for number, (x, y) in enumerate(deleted_positions(project, entry, things, mpp)):
        yield ObjectRow(
            image=image.name, case=image.case, domain=image.domain, label=class_map.non_mitosis,
            role="non_mitosis", x=x, y=y, shape="points", polygon=None, votes_atypical=None,
            votes_total=None, cell=_cell(image, x, y), split="train", source_id=f"deleted#{number}",
        )  # fmt: skip


def _relabel(class_map: ClassMap) -> Callable[[ObjectRow, str], ObjectRow]:
    def relabel(row: ObjectRow, label: str) -> ObjectRow:
        role = class_map.role(label)
        if role is None or role == "region":
            raise DatasetError(
                f"The object table gives the class {label!r}, which means nothing to us.", "See --class-map."
            )
        return replace(row, label=label, role=role)

    return relabel


def _with_files(stem: str, areas: list[AreaRow]) -> Iterator[AreaRow]:
    for number, area in enumerate(areas):
        yield replace(area, file=f"pixels/{stem}-{number}.npy" if len(areas) > 1 else f"pixels/{stem}.npy")


def _write(
    folder: Path,
    project: Project,
    store: ProjectStore,
    exported: list[_ImageExport],
    ignored: Mapping[str, int],
    options: ExportOptions,
) -> None:
    images = [one.image for one in exported]
    objects = [row for one in exported for row in one.objects]
    splits = split_cases(tally_cases(images, objects), options.split_seed)
    split_images, split_objects = with_splits(images, objects, splits)
    roles: dict[str, set[str]] = {}
    for row in objects:
        roles.setdefault(row.role, set()).add(row.label)
    meta = DatasetMeta(
        class_map={role: tuple(sorted(labels)) for role, labels in sorted(roles.items())},
        ignored=dict(sorted(ignored.items())),
        coarse=tuple(one.image.name for one in exported if one.coarse),
        sources=(
            Source(project=project.folder.name, store="sidecar" if options.ground_truth else store.name),
        ),
        software={"midog-qupath": midog_qupath.__version__},
        splits=SplitSettings(seed=options.split_seed),
    )
    areas = [area for one in exported for area in one.areas]
    write_dataset(folder, meta, split_images, split_objects, areas)
