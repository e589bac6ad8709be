"""A small project behind each of the stores, and what a person can do to it between two runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry
from write_objects import detection, drawn, next_run

from midog_qupath.progress import SILENT
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.geojson import write_features
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project
from midog_qupath.project.ours import Standing, classify
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.results import ImageResult, RunReport
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore
from midog_qupath.project.stores.sidecar import SidecarStore
from midog_qupath.project.write import write_detections
from midog_qupath.units import MicronsPerPixel

MPP = MicronsPerPixel(0.25)
WHOLE = box(0, 0, 1000, 1000)
STORES: dict[str, Callable[[Project], ProjectStore]] = {
    "native": NativeStore,
    "sidecar": SidecarStore,
    "paquo": PaquoStore,
}
Place = tuple[float, float]


def people() -> list[PathObject]:
    """What a person drew: coordinates that 32 bits hold exactly."""
    return [
        drawn(box(480, 480, 520, 520), identity=1),
        replace(drawn(box(0, 0, 800, 800), "Region*", identity=2), name="ä region", locked=True),
        replace(
            drawn(Polygon([(10, 10), (30.5, 12), (20, 40)]), "Non-mitosis", 3), measurements={"Votes": 2}
        ),
    ]


@dataclass
class World:
    """A project of two images, and how objects get into it and out of it."""

    project: Project
    kind: str

    @property
    def image(self) -> ImageEntry:
        """The first image."""
        return self.project.images[0]

    def store(self) -> ProjectStore:
        """A new store of the project."""
        return STORES[self.kind](self.project)

    def objects(self, entry: ImageEntry | None = None) -> list[PathObject]:
        """Everything in an image."""
        # What QuPath wrote is read without it: its process takes seconds to start.
        with (SidecarStore if self.kind == "sidecar" else NativeStore)(self.project) as store:
            return store.read(entry or self.image)

    def people(self, entry: ImageEntry | None = None) -> list[PathObject]:
        """What is not ours in an image, in a fixed order."""
        found = [item for item in self.objects(entry) if item.kind is ObjectKind.ANNOTATION]
        return sorted(found, key=lambda item: str(item.id))

    def places(self, entry: ImageEntry | None = None) -> list[tuple[int, int]]:
        """Where detections stand, sorted."""
        found = [item for item in self.objects(entry) if item.kind is ObjectKind.DETECTION]
        points = [item.roi.geometry.envelope.centroid for item in found if item.roi]
        return sorted((round(point.x), round(point.y)) for point in points)

    def standings(self) -> dict[tuple[int, int], Standing]:
        """Whose the detections of the first image are, by place."""
        found = [item for item in self.objects() if item.kind is ObjectKind.DETECTION]
        boxes = [item.roi.geometry.envelope.centroid for item in found if item.roi]
        standings = classify(found, load_manifests(self.project))
        return {(round(at.x), round(at.y)): whose for at, whose in zip(boxes, standings, strict=True)}

    def write(self, *places: Place, area: BaseGeometry = WHOLE, **options: Any) -> RunReport:
        """A run of ``annotate`` that found figures at these places in every image."""
        run = replace(next_run(self.project), **options.pop("run", {}))
        found = [detection(x, y) for x, y in places]
        results = [ImageResult(entry, found, area, MPP) for entry in self.project.images]
        settings = {"keep": False, "sidecar_only": False, "progress": SILENT, **options}
        return write_detections(self.project, self.store, results, run, **settings)

    def person(self, change: Callable[[PathObject], PathObject | None], *places: Place) -> None:
        """A person changes (or, None, deletes) detections at some places in every image, and saves."""
        for entry in self.project.images:
            new = []
            for item in self.objects(entry):
                at = item.roi.geometry.envelope.centroid if item.roi else None
                chosen = item.kind is ObjectKind.DETECTION and at and (round(at.x), round(at.y)) in places
                if (kept := change(item) if chosen else item) is not None:
                    new.append(kept)
            self.save(entry, new)

    def save(self, entry: ImageEntry, objects: Sequence[PathObject]) -> None:
        """All objects of an image anew, as QuPath's save does."""
        if self.kind != "sidecar":
            (entry.data_dir / "data.qpdata").unlink(missing_ok=True)
            (entry.data_dir / "summary.json").unlink(missing_ok=True)
            NativeStore(self.project).create(entry, objects)
            return
        ours = [item for item in objects if item.kind is ObjectKind.DETECTION]
        theirs = [item for item in objects if item.kind is not ObjectKind.DETECTION]
        write_features(self.project.ours / "ground-truth" / f"{entry.stem}.geojson", theirs)
        write_features(self.project.ours / "sidecar" / f"{entry.stem}.geojson", ours)

    def copy(self, folder: Path) -> World:
        """The same world once more."""
        shutil.copytree(self.project.folder, folder)
        return World(open_project(folder), self.kind)


def make_world(folder: Path, kind: str) -> World:
    """Two images with people's annotations in them."""
    pictures = [folder / f"image-{number}.png" for number in "12"]
    for picture in pictures:
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), np.full((1000, 1000, 3), 230, np.uint8))
    world = World(create_project(folder / "project", [NewImage(one, mpp=MPP) for one in pictures]), kind)
    for entry in world.project.images:
        world.save(entry, people())
    return world


def reclassified(item: PathObject) -> PathObject:
    """A person says that it is none."""
    return replace(item, path_class=PathClass("Non-mitosis", -8421505))


def deleted(item: PathObject) -> None:
    """A person deletes it."""
