"""Which part of an image is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import GeoJsonError, SlideError
from midog_qupath.project.classes_file import normalised
from midog_qupath.project.geojson import read_features
from midog_qupath.project.model import ImageEntry, ObjectKind, PathObject
from midog_qupath.slides.mpp import ResolvedMpp

_AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Job:
    """One image to search.

    ``area`` (slide pixels) is what the run answers for: older detections of ours in it are replaced.
    ``searched`` is the part of it that can hold figures, the tissue. ``cell_px`` marks a mosaic. ``tissue``
    is that of the whole image where it was looked for.
    """

    entry: ImageEntry
    pixel: ResolvedMpp
    area: BaseGeometry
    searched: BaseGeometry
    cell_px: float | None
    tissue: BaseGeometry | None = None

    @property
    def mm2(self) -> float:
        """Searched square millimetres."""
        return float(self.searched.area) * (self.pixel.mpp / 1000) ** 2


def cell_side(entry: ImageEntry) -> float | None:
    """Side of the cells of a mosaic in slide pixels, from the metadata ``cell_px``; None for other images.

    Raises
    ------
    SlideError
        If the metadata hold something else than a positive number.
    """
    said = entry.metadata.get("cell_px")
    if not said:
        return None
    if not said.isdecimal() or int(said) == 0:
        raise SlideError(
            f"{entry.name}: its metadata say cell_px = {said!r}.", "Write the side of a cell in pixels."
        )
    return float(said)


def union_of_areas(objects: Sequence[PathObject], class_name: str | None = None) -> BaseGeometry:
    """Union (slide pixels) of all areas drawn, of one class if it is named; empty without any."""
    wanted = None if class_name is None else normalised(class_name)
    shapes = [
        shapely.make_valid(thing.roi.geometry)
        for thing in objects
        if thing.roi is not None
        and thing.kind is ObjectKind.ANNOTATION
        and thing.roi.geometry.geom_type in _AREAS
        and (wanted is None or normalised(thing.class_name or "") == wanted)
    ]
    return shapely.union_all(shapes)


def area_of_file(path: Path) -> BaseGeometry:
    """Union (slide pixels) of the areas in a GeoJSON file.

    Raises
    ------
    GeoJsonError
        If the file cannot be read or holds no area.
    """
    area = union_of_areas(read_features(path))
    if area.is_empty:
        raise GeoJsonError(f"{path} holds no area.", "Give a GeoJSON file with polygons.")
    return area
