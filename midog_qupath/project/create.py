"""A new project that QuPath opens, from images."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from midog_qupath import files
from midog_qupath.errors import MidogError, ProjectError
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.builder import server_builder
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.classes_file import java_int
from midog_qupath.project.model import Project
from midog_qupath.project.qpproj import FILE_NAME, open_project
from midog_qupath.slides.open import open_slide
from midog_qupath.slides.thumbnail import thumbnail

#: The version of QuPath whose form we write; 0.4 to 0.7 read it.
QUPATH_VERSION = "0.6.0"
#: Largest width and height of a thumbnail in pixels, and its JPEG quality, as QuPath makes them.
_THUMBNAIL_PX = (1000, 600)
_THUMBNAIL_QUALITY = 75


@dataclass(frozen=True)
class NewImage:
    """An image to put into a new project. ``mpp`` None: what the file says; ``metadata`` as in QuPath."""

    path: Path
    mpp: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ready:
    """An image that was opened and read: its server builder and its thumbnail as JPEG."""

    builder: dict[str, Any]
    thumbnail: bytes


def create_project(target: Path, images: Sequence[NewImage], progress: Progress = SILENT) -> Project:
    """Write a project and its data folders; object data are left to QuPath or a store.

    Every image is read before anything is written, and a failure leaves nothing behind.

    Parameters
    ----------
    target
        Folder of the project, or the path of its ``.qpproj`` file. Images keep their place.
    images
        At least one.
    progress
        Gets a bar of images.

    Raises
    ------
    ProjectError
        No images, one twice or unreadable, the target exists or cannot be written.
    """
    folder, name = (target.parent, target.name) if target.suffix == ".qpproj" else (target, FILE_NAME)
    _refuse(folder, name, images)
    ready = _read_all(images, progress)
    try:
        with _work_folder(folder) as work:
            _write(work, folder / name, images, ready)
            _move_in(work, folder)
    except OSError as error:
        raise ProjectError(
            f"The project cannot be written to {folder}: {error.strerror or error}.",
            "Give a folder that you may write to, on a disk with space, with -o.",
        ) from error
    return open_project(folder / name)


def _refuse(folder: Path, name: str, images: Sequence[NewImage]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ProjectError(f"{folder} is a file.", "Give the folder of the new project with -o.")
    there = [part for part in (name, "data", "classifiers") if (folder / part).exists()]
    if there:
        raise ProjectError(f"{folder} holds {there[0]} already.", "Give another folder with -o.")
    if not images:
        raise ProjectError("There are no images to put into the project.", "Name at least one image.")
    counts = Counter(image.path.resolve() for image in images)
    twice = next((path for path, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ProjectError(f"{twice} is named twice.", "Name each image once.")


def _read_all(images: Sequence[NewImage], progress: Progress) -> list[_Ready]:
    ready, failures = [], []
    with progress.task("reading images", len(images), "images") as advance:
        for image in images:
            try:
                ready.append(_read(image))
            except MidogError as error:
                failures.append(error)
            advance(1)
    if failures:
        what = " ".join(failure.what for failure in failures)
        count = f"{len(failures)} of {len(images)} images cannot be used: " if len(images) > 1 else ""
        raise ProjectError(f"{count}{what}", f"Nothing was written. {failures[0].remedy}")
    return ready


def _read(image: NewImage) -> _Ready:
    with open_slide(image.path) as slide:
        _refuse_scenes(image.path, slide.facts.scenes)
        small = thumbnail(slide, *_THUMBNAIL_PX)
        _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _THUMBNAIL_QUALITY])
        return _Ready(server_builder(image.path, slide, image.mpp), data.tobytes())


def _refuse_scenes(path: Path, scenes: int) -> None:
    if scenes > 1:
        raise ProjectError(
            f"{path} holds {scenes} images (scenes), and which one is meant is not known.",
            "Export the one that you need to a file of its own (QuPath: File > Export images > OME-TIFF).",
        )


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """An empty folder on the same disk, gone at the end."""
    target = Path(os.path.abspath(folder))
    near = next(place for place in (target, *target.parents) if place.is_dir())
    work = Path(tempfile.mkdtemp(prefix=".new-project-", dir=near))
    try:
        # What mkdtemp makes is private; a project on a share is for others too.
        work.chmod(0o755)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(work: Path, file: Path, images: Sequence[NewImage], ready: Sequence[_Ready]) -> None:
    names = unique_names([Path(os.path.abspath(image.path)) for image in images])
    entries = []
    for number, (image, name, made) in enumerate(zip(images, names, ready, strict=True), start=1):
        data = work / "data" / str(number)
        files.write_json(data / "server.json", made.builder)
        files.write_bytes(data / "thumbnail.jpg", made.thumbnail)
        entries.append(_entry(number, name, image, made.builder))
    classes = [{"name": item.name, "color": java_int(item.color or 0)} for item in ClassMap().path_classes()]
    files.write_json(work / "classifiers" / "classes.json", {"pathClasses": classes})
    files.write_json(work / file.name, _project(file, entries))


def _move_in(work: Path, folder: Path) -> None:
    """Part by part into the folder, the project file last; all parts out again if one fails."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    moved: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in sorted(work.iterdir(), key=lambda part: part.suffix == ".qpproj"):
            moved.append(part.rename(folder / part.name))
    except BaseException:
        for part in moved:
            part.rename(work / part.name)
        for parent in made:
            if parent.is_dir():
                parent.rmdir()
        raise


def _entry(number: int, name: str, image: NewImage, builder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "serverBuilder": builder,
        "entryID": number,
        "randomizedName": str(uuid.uuid4()),
        "imageName": name,
        "metadata": dict(image.metadata),
        "tags": [],
    }


def unique_names(paths: Sequence[Path]) -> list[str]:
    """File names of different absolute paths; where two are alike, with as many folders as tell them apart.

    QuPath's scripts find an image by its name.
    """
    names = [path.name for path in paths]
    depth = 1
    while len(set(names)) < len(names):
        depth += 1
        counts = Counter(names)
        names = [
            "/".join(path.parts[-depth:]) if counts[name] > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    return names


def _project(file: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {
        "version": QUPATH_VERSION,
        "createTimestamp": now,
        "modifyTimestamp": now,
        "uri": Path(os.path.abspath(file)).as_uri(),
        "lastID": len(entries),
        "images": list(entries),
    }
