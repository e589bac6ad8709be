"""Reading ``project.qpproj``: entries, addresses, calibration and classes, without Java.

Object data are not in this file; a store reads them.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlsplit

from midog_qupath.errors import ProjectError, SlideError
from midog_qupath.project.model import ImageEntry, PathClass, Project, ServerBuilder
from midog_qupath.units import MicronsPerPixel

FILE_NAME = "project.qpproj"
_MICRONS = frozenset({"µm", "um", "μm", "micron", "microns"})
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def open_project(path: Path) -> Project:
    """Read a project from its ``project.qpproj`` or its folder.

    Raises
    ------
    ProjectError
        No such project, half-written JSON, JSON of something else, or an entry id used twice.
    """
    file = _project_file(path)
    raw = _read_json(file)
    entries = raw.get("images")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProjectError(
            f"{file} is JSON but not a QuPath project.", "Give a project.qpproj that QuPath wrote."
        )
    old_folder = _old_folder(raw.get("uri"))
    images = tuple(_entry(file, entry, old_folder) for entry in entries)
    _refuse_duplicates(file, images)
    return Project(
        path=file,
        version=str(raw["version"]) if raw.get("version") is not None else None,
        images=_unique_stems(images),
        classes=read_classes(file.parent / "classifiers" / "classes.json"),
    )


def _project_file(path: Path) -> Path:
    file = path / FILE_NAME if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        others = sorted(path.glob("*.qpproj"))
        if len(others) == 1:
            return others[0].resolve()
    if not file.is_file():
        raise ProjectError(f"There is no QuPath project at {path}.", "Give a project.qpproj or its folder.")
    return file.resolve()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(
            f"{file} cannot be read: {error}.", "Check the file and its permissions."
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ProjectError(
            f"{file} is not complete JSON ({error}).",
            "QuPath keeps the version before as project.qpproj.backup: copy that over it.",
        ) from error
    if not isinstance(raw, dict):
        raise ProjectError(
            f"{file} is JSON but not a QuPath project.", "Give a project.qpproj that QuPath wrote."
        )
    return raw


def _old_folder(uri: Any) -> str | None:
    """Folder in which the project lay when QuPath wrote it, as a URI path ending in a slash."""
    if not isinstance(uri, str):
        return None
    path = urlsplit(uri).path
    return path.rsplit("/", 1)[0] + "/" if "/" in path else None


def _entry(file: Path, raw: Mapping[str, Any], old_folder: str | None) -> ImageEntry:
    builder_raw = raw.get("serverBuilder") or {}
    builder = _builder(builder_raw)
    path, stale = _resolve(builder.uri, old_folder, file.parent)
    metadata = _server_metadata(builder_raw)
    name = str(
        raw.get("imageName") or metadata.get("name") or (path.name if path else f"image {raw.get('entryID')}")
    )
    return ImageEntry(
        entry_id=str(raw.get("entryID")),
        name=name,
        builder=builder,
        path=path,
        stale=stale,
        width=_whole(metadata.get("width")),
        height=_whole(metadata.get("height")),
        mpp=_calibration(metadata),
        metadata={str(k): str(v) for k, v in (raw.get("metadata") or {}).items()},
        data_dir=file.parent / "data" / str(raw.get("entryID")),
        stem=_safe_stem(name),
    )


def _builder(raw: Mapping[str, Any]) -> ServerBuilder:
    inner = raw
    while isinstance(inner.get("builder"), dict):
        inner = inner["builder"]
    uri = inner.get("uri")
    return ServerBuilder(
        type=str(raw.get("builderType", "uri")),
        uri=str(uri) if uri is not None else None,
        provider=str(inner["providerClassName"]) if inner.get("providerClassName") else None,
        args=tuple(str(a) for a in inner.get("args") or ()),
    )


def _server_metadata(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    found = raw.get("metadata")
    if isinstance(found, dict):
        return found
    inner = raw.get("builder")
    return _server_metadata(inner) if isinstance(inner, dict) else {}


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and value > 0 else None


def _calibration(metadata: Mapping[str, Any]) -> MicronsPerPixel | None:
    """Mean of pixel width and height where both are in microns, else None."""
    calibration = metadata.get("pixelCalibration") or {}
    sizes = []
    for side in ("pixelWidth", "pixelHeight"):
        size = calibration.get(side) or {}
        value = size.get("value")
        if str(size.get("unit", "")).lower() not in _MICRONS or not isinstance(value, (int, float)):
            return None
        sizes.append(float(value))
    mean = sum(sizes) / 2
    return MicronsPerPixel(mean) if 0 < mean < float("inf") else None


def _resolve(uri: str | None, old_folder: str | None, folder: Path) -> tuple[Path | None, bool]:
    """Where an image lies on this machine, and whether its address in the project no longer holds."""
    if uri is None:
        return None, False
    parts = urlsplit(uri)
    if parts.scheme not in ("file", ""):
        return None, False
    direct = local_path(uri)
    if direct.is_file():
        return direct, False
    for candidate in _moved(parts.path, old_folder, folder):
        if candidate.is_file():
            return candidate, True
    return None, False


def local_path(uri: str) -> Path:
    """The path that a ``file:`` URI names, on whatever system it was written."""
    parts = urlsplit(uri)
    text = unquote(parts.path)
    if parts.netloc and parts.netloc != "localhost":
        text = f"//{parts.netloc}{text}"
    if re.match(r"^/[A-Za-z]:", text):
        text = text[1:]
    return Path(PureWindowsPath(text)) if os.name == "nt" else Path(text)


def _moved(path: str, old_folder: str | None, folder: Path) -> list[Path]:
    """Where QuPath looks for a moved image: the same way from the project as before, then nearby by name."""
    candidates = []
    if old_folder:
        relative = os.path.relpath(unquote(path), unquote(old_folder)).replace("\\", "/")
        candidates.append(Path(os.path.normpath(folder / relative)))
    names = PurePosixPath(unquote(path)).parts[1:]
    # The longest tail first: images/a/x.tif before x.tif.
    candidates += [folder.joinpath(*names[start:]) for start in range(len(names))]
    return candidates


def _safe_stem(name: str) -> str:
    stem = PurePosixPath(name.replace("\\", "/")).name
    stem = stem.rsplit(".", 1)[0] if "." in stem.strip(".") else stem
    return _UNSAFE.sub("_", stem).strip(" .") or "image"


def _unique_stems(images: tuple[ImageEntry, ...]) -> tuple[ImageEntry, ...]:
    from dataclasses import replace

    # Case-blind: Windows and macOS do not tell A.geojson from a.geojson.
    counts = Counter(image.stem.lower() for image in images)
    return tuple(
        replace(image, stem=f"{image.stem}-{image.entry_id}") if counts[image.stem.lower()] > 1 else image
        for image in images
    )


def _refuse_duplicates(file: Path, images: tuple[ImageEntry, ...]) -> None:
    twice = [key for key, count in Counter(image.entry_id for image in images).items() if count > 1]
    if twice:
        raise ProjectError(
            f"{file} holds entry id {twice[0]} twice: two images share one data folder.",
            "Two QuPath windows added images at once; restore project.qpproj.backup.",
        )


def read_classes(file: Path) -> tuple[PathClass, ...]:
    """Classes of ``classifiers/classes.json``; none where the file is missing or not understood."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8-sig")).get("pathClasses", [])
        return tuple(PathClass(str(row["name"]), row.get("color")) for row in rows)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ()


def require_plain(entry: ImageEntry) -> None:
    """Refuse an image that QuPath shows rotated, cropped or otherwise changed.

    Raises
    ------
    SlideError
        The file's pixels are not where QuPath's coordinates say.
    """
    if entry.builder.type != "uri":
        raise SlideError(
            f"{entry.name} is shown {entry.builder.type} by QuPath: its pixels lie elsewhere in the file.",
            "Add the image to the project unchanged, and annotate that.",
        )
