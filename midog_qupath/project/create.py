"""A new project that QuPath opens, from images."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import orjson

from midog_qupath import files
from midog_qupath.errors import ProjectError
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.classes_file import java_int
from midog_qupath.project.model import Project
from midog_qupath.project.qpproj import FILE_NAME, open_project
from midog_qupath.slides.base import Slide
from midog_qupath.slides.open import open_slide, opens_by_openslide
from midog_qupath.slides.pictures import SUFFIXES as PICTURES

#: The version of QuPath whose form we write; 0.4 to 0.7 read it.
QUPATH_VERSION = "0.6.0"
_OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
_IMAGEJ = "qupath.imagej.images.servers.ImageJServerBuilder"
_BIOFORMATS = "qupath.lib.images.servers.bioformats.BioFormatsServerBuilder"
_CHANNELS = (("Red", -65536), ("Green", -16711936), ("Blue", -16776961))
_THUMBNAIL_PX = 1000


@dataclass(frozen=True)
class NewImage:
    """An image to put into a new project. ``mpp`` None: what the file says; ``metadata`` as in QuPath."""

    path: Path
    mpp: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def create_project(target: Path, images: Sequence[NewImage]) -> Project:
    """Write a project and its data folders; object data are left to QuPath or a store.

    Every image is opened before anything is written, and a failure leaves nothing behind.

    Parameters
    ----------
    target
        Folder of the project, or the path of its ``.qpproj`` file. Images keep their place.
    images
        At least one.

    Raises
    ------
    ProjectError
        No images, one twice, or the target exists.
    SlideError
        An image cannot be opened.
    """
    folder, name = (target.parent, target.name) if target.suffix == ".qpproj" else (target, FILE_NAME)
    _refuse(folder / name, images)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = not folder.exists()
    work = Path(tempfile.mkdtemp(prefix=".new-project-", dir=folder.parent))
    try:
        entries = [_write_entry(work, number, image) for number, image in enumerate(images, start=1)]
        _unique_names(entries)
        _write_classes(work / "classifiers" / "classes.json")
        files.write_json(work / name, _project(folder / name, entries))
        work.chmod(0o755)
        _move_in(work, folder, fresh)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return open_project(folder / name)


def _refuse(file: Path, images: Sequence[NewImage]) -> None:
    if file.exists() or (file.parent / "data").exists():
        raise ProjectError(f"There is a project at {file.parent} already.", "Give another folder with -o.")
    if not images:
        raise ProjectError("There are no images to put into the project.", "Name at least one image.")
    resolved = Counter(image.path.resolve() for image in images)
    twice = next((path for path, count in resolved.items() if count > 1), None)
    if twice is not None:
        raise ProjectError(f"{twice} is named twice.", "Name each image once.")


def _move_in(work: Path, folder: Path, fresh: bool) -> None:
    """Into place: in one step for a new folder, else part by part with the project file last."""
    if fresh:
        work.rename(folder)
        return
    for part in sorted(work.iterdir(), key=lambda p: p.suffix == ".qpproj"):
        part.rename(folder / part.name)


def _write_entry(work: Path, number: int, image: NewImage) -> dict[str, Any]:
    data = work / "data" / str(number)
    data.mkdir(parents=True)
    with open_slide(image.path) as slide:
        server = _server(image, slide)
        _write_thumbnail(data / "thumbnail.jpg", slide)
    files.write_bytes(data / "server.json", orjson.dumps(server))
    return {
        "serverBuilder": server,
        "entryID": number,
        "randomizedName": str(uuid.uuid4()),
        "imageName": image.path.name,
        "metadata": dict(image.metadata),
        "tags": [],
    }


def _write_thumbnail(path: Path, slide: Slide) -> None:
    downsample = max(1.0, max(slide.width, slide.height) / _THUMBNAIL_PX)
    size = (int(slide.width / downsample), int(slide.height / downsample))
    pixels = slide.read(0, 0, max(size[0], 1), max(size[1], 1), downsample)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1])
    files.write_bytes(path, data.tobytes())


def _server(image: NewImage, slide: Slide) -> dict[str, Any]:
    mpp = image.mpp if image.mpp is not None else slide.file_mpp
    return {
        "builderType": "uri",
        "providerClassName": _provider(image.path),
        "uri": image.path.resolve().as_uri(),
        "args": [],
        "metadata": {
            "name": image.path.name,
            "width": slide.width,
            "height": slide.height,
            "sizeZ": 1,
            "sizeT": 1,
            "channelType": "DEFAULT",
            "isRGB": True,
            "pixelType": "UINT8",
            "levels": [{"downsample": 1.0, "width": slide.width, "height": slide.height}],
            "channels": [{"name": name, "color": color} for name, color in _CHANNELS],
            "pixelCalibration": _calibration(mpp),
            "preferredTileWidth": 1024,
            "preferredTileHeight": 1024,
        },
    }


def _provider(path: Path) -> str:
    if path.suffix.lower() in PICTURES:
        return _IMAGEJ
    return _OPENSLIDE if opens_by_openslide(path) else _BIOFORMATS


def _calibration(mpp: float | None) -> dict[str, Any]:
    size = {"value": mpp, "unit": "µm"} if mpp is not None else {"value": 1.0, "unit": "px"}
    return {
        "pixelWidth": size,
        "pixelHeight": size,
        "zSpacing": {"value": 1.0, "unit": "z-slice"},
        "timeUnit": "SECONDS",
        "timepoints": [0.0],
    }


def _unique_names(entries: list[dict[str, Any]]) -> None:
    """QuPath tells images apart by name: a second one of a name gets its folder's name too."""
    counts = Counter(entry["imageName"] for entry in entries)
    for entry in entries:
        if counts[entry["imageName"]] > 1:
            uri = str(entry["serverBuilder"]["uri"])
            entry["imageName"] = "/".join(uri.split("/")[-2:])


def _write_classes(path: Path) -> None:
    rows = [{"name": item.name, "color": java_int(item.color or 0)} for item in ClassMap().path_classes()]
    files.write_json(path, {"pathClasses": rows})


def _project(file: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {
        "version": QUPATH_VERSION,
        "createTimestamp": now,
        "modifyTimestamp": now,
        "uri": file.absolute().as_uri(),
        "lastID": len(entries),
        "images": list(entries),
    }
