"""The generated project: images of several laboratories with ground truth, as QuPath would hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from midog_qupath import files
from midog_qupath.demo.drawings import Drawing, draw_each, draw_points, region
from midog_qupath.demo.field import Field, render_field
from midog_qupath.demo.stain import STAINS, Stain
from midog_qupath.errors import ProjectError
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.model import ObjectKind, PathObject
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.units import WORKING_MPP


@dataclass(frozen=True)
class DemoImage:
    """An image of the project: where it comes from and how its ground truth is drawn."""

    name: str
    stain: Stain
    case: str
    labelled: str
    pointed: bool
    seed: tuple[int, ...]

    @property
    def metadata(self) -> dict[str, str]:
        """As in QuPath's project."""
        return {"domain": self.stain.name, "case": self.case, "labelled": self.labelled}


def plan_images(seed: int, count: int, domains: int) -> list[DemoImage]:
    """The images of a project, shared out evenly among ``domains`` laboratories.

    Eight images of a laboratory are of five cases; one of the eight is labelled inside a region only, the
    mitoses of another are drawn as points.

    Raises
    ------
    ProjectError
        Fewer images than domains, or more domains than there are stains.
    """
    if not 1 <= domains <= min(len(STAINS), count):
        raise ProjectError(
            f"{count} images of {domains} laboratories cannot be generated.",
            f"Ask for 1 to {len(STAINS)} laboratories and at least one image of each.",
        )
    plans = []
    for index in range(count):
        stain, number = STAINS[index % domains], index // domains
        plans.append(
            DemoImage(
                # The scanner of one laboratory writes TIFF.
                name=f"{stain.name}-{number + 1:02d}{'.tif' if index % domains == 1 else '.png'}",
                stain=stain,
                case=f"{stain.name}-case-{number * 5 // 8 + 1}",
                labelled="regions" if number % 8 == 2 else "whole",
                pointed=number % 8 == 5,
                seed=(seed, index),
            )
        )
    return plans


def generate_project(
    folder: Path,
    seed: int = 0,
    count: int = 24,
    size_px: int = 896,
    domains: int = 3,
    progress: Progress = SILENT,
) -> Path:
    """Generate a project that QuPath opens; returns its ``project.qpproj``.

    The same seed, numbers and size give the same images and annotations.

    Parameters
    ----------
    folder
        New or empty; the images go into ``images/`` in it.
    seed
        Other images for another number.
    count, size_px
        How many images, and their side in pixels of 0.25 µm.
    domains
        Of how many laboratories.

    Raises
    ------
    ProjectError
        If the folder holds something already, or the numbers do not go together.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ProjectError(f"{folder} is not empty.", "Give the folder of a new project.")
    plans = plan_images(seed, count, domains)
    new, drawn = [], []
    with progress.task("Drawing images", total=len(plans), unit="images") as advance:
        for plan in plans:
            field = render_field(plan.seed, plan.stain, size_px)
            path = folder / "images" / plan.name
            write_image(path, field.image)
            new.append(NewImage(path, WORKING_MPP, plan.metadata))
            drawn.append(drawn_objects(plan, field))
            advance(1)
    project = create_project(folder, new)
    with NativeStore(project) as store:
        for entry, objects in zip(project.images, drawn, strict=True):
            store.create(entry, objects)
    return project.path


def drawn_objects(plan: DemoImage, field: Field) -> list[PathObject]:
    """The ground truth of an image as annotations; outside of a labelled region nobody looked."""
    rng, classes = np.random.default_rng((*plan.seed, 1)), ClassMap()
    drawn: list[Drawing] = []
    objects = field.objects
    if plan.labelled == "regions":
        drawn.append(region(rng, field.image.shape[0], classes))
        area = drawn[0].roi.geometry
        objects = tuple(thing for thing in objects if area.contains(thing.polygon))
    drawn += (draw_points if plan.pointed else draw_each)(rng, objects, classes)
    colored = {item.name: item for item in classes.path_classes()}
    return [
        PathObject(identity, ObjectKind.ANNOTATION, drawing.roi, colored[drawing.class_name])
        for drawing, identity in zip(drawn, _identities(plan), strict=False)
    ]


def _identities(plan: DemoImage) -> Iterator[UUID]:
    number = 0
    while True:
        yield uuid5(NAMESPACE_URL, f"midog-qupath/demo/{plan.seed}/{plan.name}/{number}")
        number += 1


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (h, w, 3) uint8 RGB as PNG, or as a tiled TIFF that says its pixel size."""
    if path.suffix != ".tif":
        _, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
        files.write_bytes(path, data.tobytes())
        return
    per_cm, tiff = 1e4 / WORKING_MPP, BytesIO()
    tifffile.imwrite(
        tiff, image, photometric="rgb", tile=(256, 256), compression="zlib",
        resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    files.write_bytes(path, tiff.getvalue())
