"""Pseudo-masks as files: overlays to look at, and GeoJSON that QuPath shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import cv2
from shapely.geometry import Polygon

from midog_qupath.dataset.store import Dataset
from midog_qupath.files import write_bytes
from midog_qupath.learning.ground import AreaGround, gather
from midog_qupath.learning.mask_outlines import outlines
from midog_qupath.learning.mask_report import AreaMasks, MaskCounts, count, masks_of, overlay, pages
from midog_qupath.learning.predict import class_probabilities
from midog_qupath.learning.recipe import Recipe
from midog_qupath.learning.teach_only import TeachOptions, train_teacher
from midog_qupath.models.bundle import Bundle, load_bundle
from midog_qupath.models.student import HARD_NEGATIVE, MITOSIS, NUCLEUS
from midog_qupath.progress import Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.geojson import write_features
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind
from midog_qupath.project.qpproj import safe_stem

#: Colour (packed ARGB) of normal nuclei in QuPath, that of their contours in the overlays.
_NUCLEUS_COLOUR = 0xFF00823C


@dataclass(frozen=True)
class MaskOptions:
    """Which masks, and where to.

    ``out``: folder of overlays and objects. ``seconds``: longest training of the teacher, None for the
    recipe's steps. ``model``: a trained model that is taken for the teacher instead. ``objects``: also QuPath
    detections, a GeoJSON an image. ``limit``: only so many labelled areas, the first. ``device``: cpu, cuda
    or mps.
    """

    out: Path
    recipe: Recipe
    seconds: float | None = None
    model: Path | None = None
    objects: bool = False
    limit: int | None = None
    device: str = "cpu"


def write_masks(data: Dataset, options: MaskOptions, progress: Progress) -> MaskCounts:
    """Overlays (``overlays/*.png``) and objects (``objects/*.geojson``) of labelled areas; what is in them.

    Raises
    ------
    DatasetError
        If there is nothing that a teacher could learn from.
    ModelError
        If the model that was given cannot be used.
    """
    teacher = _teacher(data, options, progress)
    areas = gather([data], lambda row: True, options.recipe.student.soft_labels).areas[: options.limit]
    names, total = _file_names([area.image.name for area in areas]), MaskCounts()
    with progress.task("pseudo-masks", len(areas), "areas") as advance:
        for image, name in names.items():
            found: list[tuple[int, Polygon]] = []
            for number, area in enumerate(area for area in areas if area.image.name == image):
                masks = _masks(area, teacher, options.recipe)
                total += count(masks)
                _write_overlays(masks, options.out / "overlays", f"{name}-{number + 1}" if number else name)
                found.extend(outlines(masks) if options.objects else ())
                advance(1)
            if options.objects:
                write_features(options.out / "objects" / f"{name}.geojson", _detections(image, found))
    return total


def _teacher(data: Dataset, options: MaskOptions, progress: Progress) -> Bundle | None:
    """The network whose opinion makes the masks; None where the recipe has none."""
    model = options.model
    if model is None:
        teach = TeachOptions(options.recipe, options.seconds, options.device)
        model = train_teacher([data], teach, options.out / "teacher.safetensors", progress)
        if model is None:
            progress.note(f"The recipe {options.recipe.name} has no teacher: these are its first masks.")
            return None
        progress.note(f"Teacher: {model} (--model takes it again)")
    return load_bundle(model, options.device)


def _masks(area: AreaGround, teacher: Bundle | None, recipe: Recipe) -> AreaMasks:
    opinion = class_probabilities(teacher.network, teacher.card, area) if teacher else None
    return masks_of(area, opinion, recipe.teacher)


def _file_names(images: Sequence[str]) -> dict[str, str]:
    """Image name to a file name without extension that no other image has, on any system."""
    names: dict[str, str] = {}
    for image in images:
        stem, number = safe_stem(image), 1
        taken = {name.lower() for other, name in names.items() if other != image}
        while (name := stem if number == 1 else f"{stem}-{number}").lower() in taken:
            number += 1
        names[image] = name
    return names


def _write_overlays(masks: AreaMasks, folder: Path, name: str) -> None:
    windows = pages(masks.area)
    for window in windows:
        place = f"-y{window[0]}-x{window[1]}" if len(windows) > 1 else ""
        picture = cv2.cvtColor(overlay(masks, window), cv2.COLOR_RGB2BGR)
        # cv2.imwrite cannot write to paths with other letters than ASCII on Windows.
        write_bytes(folder / f"{name}{place}.png", cv2.imencode(".png", picture)[1].tobytes())


def _detections(image: str, found: Iterable[tuple[int, Polygon]]) -> Iterator[PathObject]:
    classes = _classes()
    for number, (pixel_class, polygon) in enumerate(found):
        yield PathObject(
            # The same masks have the same ids: imported again they are the same objects.
            id=uuid5(NAMESPACE_URL, f"midog-qupath pseudo-mask {image} {number} {polygon.wkt}"),
            kind=ObjectKind.DETECTION,
            roi=Roi(RoiKind.POLYGON, polygon),
            path_class=classes[pixel_class],
        )


def _classes() -> dict[int, PathClass]:
    usual, colours = ClassMap(), {item.name: item for item in ClassMap().path_classes()}
    return {
        MITOSIS: colours[usual.mitosis],
        HARD_NEGATIVE: colours[usual.non_mitosis],
        NUCLEUS: PathClass("Nucleus", _NUCLEUS_COLOUR),
    }
