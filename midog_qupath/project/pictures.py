"""Small pictures of a project's images that show what is searched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath.errors import MidogError
from midog_qupath.files import write_bytes
from midog_qupath.progress import Progress
from midog_qupath.project.disk import writing
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.slides.base import RgbArray
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.slides.tissue import THUMBNAIL_MPP, find_tissue

_GREEN = (0, 200, 0)


def draw_thumbnails(project: Project, folder: Path, mpp: float | None, progress: Progress) -> None:
    """Write ``<image>.png`` for each image: 8 µm a pixel, tissue outlined in green.

    An image that cannot be read is told of and left out. ``mpp``: microns per pixel of images whose pixel
    size nobody knows. Raises SafetyError where the folder cannot be written.
    """
    with progress.task("drawing thumbnails", len(project.images), "images") as advance:
        for entry in project.images:
            try:
                picture = outlined_tissue(entry, mpp)
            except MidogError as error:
                progress.warn(f"{entry.name}: {error}")
            else:
                path = folder / f"{entry.stem}.png"
                with writing(path):
                    write_bytes(path, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
            advance(1)


def outlined_tissue(entry: ImageEntry, mpp: float | None) -> RgbArray:
    """(H, W, 3) RGB of an image at 8 µm a pixel (or its own, if coarser) with the outline of its tissue."""
    with open_entry(entry) as slide:
        pixel = resolve_mpp(entry, slide, mpp, force=True).mpp
        downsample = max(1.0, THUMBNAIL_MPP / pixel)
        size = (round(slide.width / downsample), round(slide.height / downsample))
        picture = np.ascontiguousarray(slide.read(0, 0, max(1, size[0]), max(1, size[1]), downsample))
        tissue = find_tissue(slide, pixel)
    for ring in _rings(tissue):
        points = np.round(np.asarray(ring.coords) / downsample).astype(np.int32)
        cv2.polylines(picture, [points], True, _GREEN, thickness=2)
    return picture


def _rings(area: BaseGeometry) -> list[BaseGeometry]:
    return [
        ring
        for part in shapely.get_parts(area)
        if part.geom_type == "Polygon"
        for ring in (part.exterior, *part.interiors)
    ]
