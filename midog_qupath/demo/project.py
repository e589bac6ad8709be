"""The generated project: images, and annotations as a pathologist might have drawn them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import cv2
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath import files
from midog_qupath.demo.canvas import STAINS, Rng
from midog_qupath.demo.field import Field, FieldObject, render_field
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.units import WORKING_MPP

#: Mitoses and look-alikes of a field.
_LABELLED = 9
#: Every so manieth field is labelled inside a drawn region only.
_REGION_EVERY = 6


@dataclass(frozen=True)
class DemoImage:
    """A field of the demo with its name, domain and case."""

    name: str
    domain: str
    case: str
    regional: bool
    field: Field


def demo_images(seed: int, count: int, size_px: int) -> list[DemoImage]:
    """The fields of a demo: three laboratories in turn, two fields a case."""
    made = []
    for index in range(count):
        stain = STAINS[index % len(STAINS)]
        rng = np.random.default_rng((seed, index))
        case = f"{stain.name}-case-{index // (2 * len(STAINS)) + 1}"
        field = render_field(rng, size_px, stain, _LABELLED)
        name = f"{stain.name}_{index // len(STAINS) + 1:02d}.png"
        made.append(DemoImage(name, stain.name, case, index % _REGION_EVERY == _REGION_EVERY - 1, field))
    return made


def generate_project(
    folder: Path, seed: int = 0, count: int = 36, size_px: int = 512, progress: Progress = SILENT
) -> Path:
    """Generate a project with ground truth; returns its ``project.qpproj``.

    Parameters
    ----------
    folder
        New folder; images go to ``images/``.
    seed
        The same seed gives the same images.
    count, size_px
        Number of fields and their side in pixels of 0.25 µm.
    """
    images = demo_images(seed, count, size_px)
    paths = []
    with progress.task("writing images", len(images), "images") as advance:
        for image in images:
            paths.append(folder / "images" / image.name)
            _, data = cv2.imencode(".png", image.field.image[..., ::-1])
            files.write_bytes(paths[-1], data.tobytes())
            advance(1)
    project = create_project(
        folder,
        [NewImage(path, WORKING_MPP, _metadata(image)) for path, image in zip(paths, images, strict=True)],
    )
    _annotate(project, images, seed)
    return project.path


def _metadata(image: DemoImage) -> dict[str, str]:
    labelled = "regions" if image.regional else "whole"
    return {"domain": image.domain, "case": image.case, "labelled": labelled}


def _annotate(project: Project, images: Sequence[DemoImage], seed: int) -> None:
    colors = {item.name: item for item in ClassMap().path_classes()}
    with NativeStore(project) as store:
        for index, (entry, image) in enumerate(zip(project.images, images, strict=True)):
            rng = np.random.default_rng((seed, index, 1))
            store.create(entry, _drawings(rng, image, colors))


def _drawings(rng: Rng, image: DemoImage, classes: dict[str, PathClass]) -> list[PathObject]:
    names = ClassMap()
    size = image.field.image.shape[0]
    drawn: list[tuple[str, RoiKind, BaseGeometry]] = []
    objects = image.field.objects
    if image.regional:
        region = shapely.box(16, 16, size - 16, size - 16)
        drawn.append((names.region, RoiKind.RECTANGLE, region))
        objects = tuple(thing for thing in objects if region.contains(thing.polygon))
    for thing in objects:
        drawn.append((_class_name(rng, thing, names), *_shape(rng, thing)))
    return [
        PathObject(
            id=uuid5(NAMESPACE_URL, f"midog-qupath-demo:{image.name}:{number}"),
            kind=ObjectKind.ANNOTATION,
            roi=Roi(kind, geometry),
            path_class=classes[name],
        )
        for number, (name, kind, geometry) in enumerate(drawn)
    ]


def _class_name(rng: Rng, thing: FieldObject, names: ClassMap) -> str:
    if thing.role != "non_mitosis" and rng.random() < 0.15:
        return names.mitosis  # the pathologist did not say which
    return {"normal": names.normal, "atypical": names.atypical, "non_mitosis": names.non_mitosis}[thing.role]


def _shape(rng: Rng, thing: FieldObject) -> tuple[RoiKind, BaseGeometry]:
    """As drawn: an outline, a box, an ellipse or a point, a little off as hands are."""
    kind = (RoiKind.POLYGON, RoiKind.RECTANGLE, RoiKind.ELLIPSE, RoiKind.POINTS)[int(rng.integers(4))]
    if kind is RoiKind.POLYGON:
        outline = thing.polygon.buffer(rng.uniform(0.5, 2.5)).simplify(0.5)
        return kind, shapely.set_precision(outline, 0.01)
    x0, y0, x1, y1 = thing.polygon.bounds
    if kind is RoiKind.POINTS:
        jitter = rng.uniform(-2, 2, 2)
        return kind, shapely.MultiPoint([((x0 + x1) / 2 + jitter[0], (y0 + y1) / 2 + jitter[1])])
    margin = rng.uniform(2, 6, 4)
    return kind, shapely.box(x0 - margin[0], y0 - margin[1], x1 + margin[2], y1 + margin[3])
