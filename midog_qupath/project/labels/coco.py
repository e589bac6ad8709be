"""MIDOG's and others' COCO files: boxes and outlines of objects, image by image.

MIDOG writes a box as its two corners, ``[x0, y0, x1, y1]``; COCO itself as ``[x, y, width, height]``. Which
of both a file means is found from its boxes, or said by the user.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat, ValidationError
from shapely.errors import ShapelyError
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import LabelsError
from midog_qupath.project.labels.given import IGNORE, GivenLabels, ImageLabels, Words
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind

Boxes = Literal["corners", "sizes"]
_REMEDY = "Give a COCO file: images, categories, and annotations with bbox, category_id and image_id."


class _Image(BaseModel):
    id: int | str
    file_name: str = Field(min_length=1)
    width: int | None = Field(default=None, gt=0)
    height: int | None = Field(default=None, gt=0)


class _Category(BaseModel):
    id: int | str
    name: str = Field(min_length=1)


class _Annotation(BaseModel):
    image_id: int | str
    category_id: int | str
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    segmentation: Any = None


class _Coco(BaseModel):
    images: list[_Image] = Field(min_length=1)
    categories: list[_Category]
    annotations: list[_Annotation]


def is_coco(raw: Any) -> bool:
    """Whether parsed JSON has the form of a COCO file."""
    return isinstance(raw, dict) and "images" in raw and "annotations" in raw


def read_coco(path: Path, raw: Any, words: Words, boxes: Boxes | None = None) -> GivenLabels:
    """The labels of a COCO file.

    Parameters
    ----------
    path
        Where it was read, for messages.
    raw
        Its parsed JSON.
    words
        What its categories mean.
    boxes
        How boxes are written; None to find it out.

    Raises
    ------
    LabelsError
        No COCO file, an id that is used twice or does not exist, a category of unknown meaning, or boxes
        that can be meant in two ways.
    """
    coco = _checked(path, raw)
    images = {image.id: image for image in coco.images}
    names = {category.id: category.name for category in coco.categories}
    _require_ids(path, coco, images, names)
    words.require_known((names[one.category_id] for one in coco.annotations), path.name)
    corners = (boxes or _how_boxes_are_written(path, coco, images)) == "corners"
    found: dict[int | str, list[PathObject]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for one in coco.annotations:
        class_name = words.class_of(names[one.category_id])
        roi = None if class_name == IGNORE else _roi(one, corners)
        if class_name == IGNORE or class_name is None:
            left_out[f"{names[one.category_id]} (ignored)"] += 1
        elif roi is None:
            left_out["box without an area"] += 1
        else:
            found[one.image_id].append(PathObject(None, ObjectKind.ANNOTATION, roi, PathClass(class_name)))
    given = tuple(
        ImageLabels(image.file_name, tuple(found[image.id]), image.width, image.height)
        for image in coco.images
    )
    return GivenLabels(path.name, given, dict(left_out))


def _checked(path: Path, raw: Any) -> _Coco:
    try:
        return _Coco.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LabelsError(f"{path} is no COCO file: {place}: {first['msg']}.", _REMEDY) from error


def _require_ids(
    path: Path, coco: _Coco, images: Mapping[int | str, _Image], names: Mapping[int | str, str]
) -> None:
    if len(images) < len(coco.images) or len(names) < len(coco.categories):
        raise LabelsError(f"{path} uses an id for two images or two categories.", "Correct the file.")
    for number, one in enumerate(coco.annotations):
        if one.image_id not in images or one.category_id not in names:
            what = "image" if one.image_id not in images else "category"
            raise LabelsError(f"{path}: annotation {number} is of an unknown {what}.", "Correct the file.")


def _how_boxes_are_written(path: Path, coco: _Coco, images: Mapping[int | str, _Image]) -> Boxes:
    """From whether all boxes make sense one way and not the other."""
    if not coco.annotations:
        return "sizes"
    rows = np.array([one.bbox for one in coco.annotations])
    limits = np.array([_limits(images[one.image_id]) for one in coco.annotations])
    as_corners, as_sizes = _sensible_corners(rows), _sensible_sizes(rows, limits)
    if as_corners and as_sizes and _all_alike(rows[:, 2:] - rows[:, :2]) and not _all_alike(rows[:, 2:]):
        return "corners"  # MIDOG's boxes are all of one size
    if as_corners and as_sizes and _all_alike(rows[:, 2:]):
        return "sizes"
    if as_corners == as_sizes:
        why = "can be corners or sizes" if as_corners else "are neither corners nor sizes throughout"
        raise LabelsError(
            f"{path}: its boxes {why}.",
            "Say which with --boxes corners ([x0, y0, x1, y1]) or --boxes sizes ([x, y, width, height]).",
        )
    return "corners" if as_corners else "sizes"


def _limits(image: _Image) -> tuple[float, float]:
    return (image.width or np.inf, image.height or np.inf)


def _sensible_corners(rows: NDArray[np.float64]) -> bool:
    return bool((rows[:, 2:] > rows[:, :2]).all())


def _sensible_sizes(rows: NDArray[np.float64], limits: NDArray[np.float64]) -> bool:
    # Half a box may reach past the border: its centre lies in the image.
    centres = rows[:, :2] + rows[:, 2:] / 2
    return bool((rows[:, 2:] > 0).all() and (centres <= limits).all())


def _all_alike(sizes: NDArray[np.float64]) -> bool:
    return bool(len(sizes) > 1 and np.ptp(sizes, axis=0).max() < 1e-6)


def _roi(one: _Annotation, corners: bool) -> Roi | None:
    """The outline where there is one, else the box, as a region of interest in slide pixels."""
    outline = _outline(one.segmentation)
    if outline is not None:
        kind = RoiKind.POLYGON if isinstance(outline, Polygon) and not outline.interiors else RoiKind.GEOMETRY
        return Roi(kind, outline)
    x0, y0, x1, y1 = one.bbox
    if not corners:
        x1, y1 = x0 + x1, y0 + y1
    return Roi(RoiKind.RECTANGLE, shapely.box(x0, y0, x1, y1)) if x1 > x0 and y1 > y0 else None


def _outline(segmentation: Any) -> BaseGeometry | None:
    """Polygons of a segmentation; None where it has none (a run-length mask, or nothing)."""
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        return None
    try:
        rings = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in segmentation]
        shapes = [shapely.make_valid(Polygon(ring)) for ring in rings if len(ring) >= 3]
        whole = shapely.union_all(shapes)
    except (ValueError, TypeError, ShapelyError):
        return None
    return whole if isinstance(whole, (Polygon, shapely.MultiPolygon)) and whole.area > 0 else None


def load_json(path: Path) -> Any:
    """Parsed JSON of a file. Raises LabelsError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise LabelsError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    except (ValueError, RecursionError) as error:
        raise LabelsError(f"{path} is not JSON ({error}).", "Give a COCO or GeoJSON file.") from error
