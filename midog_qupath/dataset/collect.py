"""From the ground truth of one image to rows of the dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import shapely

from midog_qupath.dataset.format import ImageRow, ObjectRow
from midog_qupath.dataset.overrides import ImageLine
from midog_qupath.errors import DatasetError
from midog_qupath.project.cases import CASE, DOMAIN, image_case, image_domain, object_case
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import GroundTruth, LabelledObject
from midog_qupath.project.model import ImageEntry
from midog_qupath.units import MicronsPerPixel

#: Image metadata in the project: the extent of labels, and the side of a mosaic's cells.
LABELLED, CELL_PX = "labelled", "cell_px"
#: Measurements of an annotation that hold experts' votes.
VOTES_ATYPICAL, VOTES_TOTAL = "Atypical votes", "Votes"


def with_overrides(entry: ImageEntry, line: ImageLine | None, whole: bool) -> ImageEntry:
    """The entry with metadata as the image table and ``--whole`` say."""
    said: dict[str, object] = {}
    if line:
        said = {CASE: line.case, DOMAIN: line.domain, LABELLED: line.extent, CELL_PX: line.cell_px}
    if whole:
        said[LABELLED] = "whole"
    changed = {key: str(value) for key, value in said.items() if value is not None}
    return replace(entry, metadata={**entry.metadata, **changed})


def image_row(name: str, entry: ImageEntry, truth: GroundTruth, mpp: MicronsPerPixel) -> ImageRow:
    """The row of an image whose size is known; its split is still ``train``.

    Raises
    ------
    DatasetError
        If the metadata ``cell_px`` is no number of pixels, or a mosaic says that all of it is labelled.
    """
    width, height = entry.width or 0, entry.height or 0
    cell_px = _cell_px(entry)
    if cell_px is not None and truth.extent != "objects":
        raise DatasetError(
            f"{entry.name} is a mosaic ({CELL_PX} = {cell_px}), and its extent is {truth.extent}.",
            f"In a mosaic only objects are known: set {LABELLED} to objects, or remove {CELL_PX}.",
        )
    regions = truth.regions
    if regions is not None:
        regions = regions.intersection(shapely.box(0, 0, width, height))
    area = regions.area if regions is not None else width * height if truth.extent == "whole" else 0.0
    return ImageRow(
        name=name,
        case=image_case(entry),
        domain=image_domain(entry),
        width=width,
        height=height,
        mpp=mpp,
        extent=truth.extent,
        cell_px=cell_px,
        region_polygons=shapely.to_wkb(regions) if regions is not None else None,
        labelled_mm2=area * mpp**2 * 1e-6,
        split="train",
    )


def _cell_px(entry: ImageEntry) -> int | None:
    said = entry.metadata.get(CELL_PX)
    if not said:
        return None
    if not said.isdecimal() or int(said) == 0:
        raise DatasetError(
            f"{entry.name}: its metadata say {CELL_PX} = {said!r}.", "Write the side of a cell in pixels."
        )
    return int(said)


def object_rows(image: ImageRow, labelled: Iterable[LabelledObject]) -> list[ObjectRow]:
    """The rows of the labelled objects of an image; those that lie off the image are left out."""
    return [row for thing in labelled if (row := _object_row(image, thing)) is not None]


def _object_row(image: ImageRow, thing: LabelledObject) -> ObjectRow | None:
    x, y = thing.x, thing.y
    if not _on(image, x, y) and thing.geometry is not None:
        # Of an object that is mostly past the border, the visible part is what can be learned.
        x0, y0, x1, y1 = thing.geometry.bounds
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
    if not _on(image, x, y) or thing.role == "region":
        return None
    return ObjectRow(
        image=image.name,
        case=object_case(image.case, thing.name, image.cell_px is not None),
        domain=image.domain,
        label=thing.label,
        role=thing.role,
        x=x,
        y=y,
        shape=thing.kind.value,
        polygon=shapely.to_wkb(thing.geometry) if thing.geometry is not None else None,
        votes_atypical=_votes(thing.measurements, VOTES_ATYPICAL),
        votes_total=_votes(thing.measurements, VOTES_TOTAL),
        cell=_cell(image, x, y),
        split="train",
        source_id=thing.source_id,
    )


def deleted_rows(
    image: ImageRow, class_map: ClassMap, positions: Iterable[tuple[float, float]]
) -> list[ObjectRow]:
    """Look-alikes where a person deleted a detection of ours, as points (slide pixels)."""
    return [
        ObjectRow(
            image=image.name,
            case=image.case,
            domain=image.domain,
            label=class_map.non_mitosis,
            role="non_mitosis",
            x=x,
            y=y,
            shape="points",
            polygon=None,
            votes_atypical=None,
            votes_total=None,
            cell=_cell(image, x, y),
            split="train",
            source_id=f"deleted at {x:.1f}, {y:.1f}",
        )
        for x, y in positions
        if _on(image, x, y)
    ]


def relabelling(class_map: ClassMap) -> Callable[[ObjectRow, str], ObjectRow]:
    """What gives a row another class and the role that goes with it; DatasetError for a class without."""

    def relabel(row: ObjectRow, label: str) -> ObjectRow:
        role = class_map.role(label)
        if role is None or role == "region":
            raise DatasetError(
                f"The object table gives the class {label!r}, which is none of a mitosis or look-alike.",
                "Correct it, or say what it means with --class-map.",
            )
        return replace(row, label=label, role=role)

    return relabel


def refuse_split_cases(image: ImageRow, rows: Iterable[ObjectRow]) -> None:
    """DatasetError if objects of an exhaustively labelled image belong to another case than the image.

    Its background belongs to one case only, and would stand in another split than such an object.
    """
    other = next((row.case for row in rows if row.case != image.case), None)
    if other is not None and image.extent != "objects":
        raise DatasetError(
            f"{image.name} is of case {image.case} and exhaustively labelled, one of its objects of {other}.",
            "Give the case by image (--image-table), or set the extent to objects.",
        )


def _on(image: ImageRow, x: float, y: float) -> bool:
    return 0 <= x < image.width and 0 <= y < image.height


def _cell(image: ImageRow, x: float, y: float) -> int | None:
    if image.cell_px is None:
        return None
    return int(y // image.cell_px) * (image.width // image.cell_px) + int(x // image.cell_px)


def _votes(measurements: Mapping[str, float], name: str) -> int | None:
    value = measurements.get(name)
    return round(value) if value is not None and math.isfinite(value) else None
