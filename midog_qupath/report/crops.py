"""Small pictures of places in images, as JPEG data URIs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import cv2

from midog_qupath.errors import MidogError
from midog_qupath.progress import Progress
from midog_qupath.project.model import ImageEntry
from midog_qupath.report.spots import Spot
from midog_qupath.slides.base import RgbArray
from midog_qupath.slides.check import open_entry
from midog_qupath.units import Microns, MicronsPerPixel

#: Side of a crop: a mitotic figure and its neighbours.
CROP_UM = Microns(24.0)
#: Side of the picture of a crop in pixels.
CROP_PX = 96
_QUALITY = 82


def crops_of(
    spots: Sequence[Spot],
    entries: Mapping[str, ImageEntry],
    mpp: Mapping[str, MicronsPerPixel],
    progress: Progress,
) -> tuple[list[str | None], dict[str, str]]:
    """A picture of each spot, and why there is none, by the id of the image.

    Parameters
    ----------
    spots
        Places in any order; each image is opened once.
    entries, mpp
        Images by id and their microns per slide pixel.

    Returns
    -------
    Data URIs of JPEG pictures in the order of the spots, ``CROP_PX`` pixels = ``CROP_UM`` microns a side
    (None where the image cannot be read), and errors.
    """
    pictures: list[str | None] = [None] * len(spots)
    failed: dict[str, str] = {}
    images = dict.fromkeys(spot.entry_id for spot in spots)
    with progress.task("cutting out pictures", len(spots), "pictures") as advance:
        for entry_id in images:
            wanted = [index for index, spot in enumerate(spots) if spot.entry_id == entry_id]
            try:
                _cut(wanted, spots, entries, mpp, pictures)
            except (MidogError, KeyError) as error:
                failed[entry_id] = str(error) if isinstance(error, MidogError) else "Not in the project."
            advance(len(wanted))
    return pictures, failed


def _cut(
    wanted: Sequence[int],
    spots: Sequence[Spot],
    entries: Mapping[str, ImageEntry],
    mpp: Mapping[str, MicronsPerPixel],
    pictures: list[str | None],
) -> None:
    entry_id = spots[wanted[0]].entry_id
    side = CROP_UM / mpp[entry_id]
    with open_entry(entries[entry_id]) as slide:
        for index in wanted:
            x, y = spots[index].x - side / 2, spots[index].y - side / 2
            pictures[index] = jpeg_uri(slide.read(x, y, CROP_PX, CROP_PX, side / CROP_PX))


def jpeg_uri(picture: RgbArray, quality: int = _QUALITY) -> str:
    """(H, W, 3) uint8 RGB as a ``data:image/jpeg`` URI."""
    _, coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return f"data:image/jpeg;base64,{base64.b64encode(coded.tobytes()).decode('ascii')}"
