"""Reading ``project.qpproj``: entries, addresses, calibration and classes, without Java.

Object data are not in this file; a store reads them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from midog_qupath.errors import ProjectError, SlideError
from midog_qupath.project.addresses import find_image
from midog_qupath.project.model import ImageEntry, PathClass, Project, ServerBuilder
from midog_qupath.units import MicronsPerPixel

FILE_NAME = "project.qpproj"
_MICRONS = frozenset({"µm", "um", "μm", "micron", "microns"})
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_EXTENSION = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,8}$")
#: Names that Windows keeps for devices.
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)$", re.IGNORECASE)
#: Builders whose pixels are those of the file: a pyramid only adds smaller copies.
_SAME_PIXELS = frozenset({"uri", "pyramidize"})


def open_project(path: Path | str) -> Project:
    """Read a project from its ``project.qpproj`` or its folder.

    Raises
    ------
    ProjectError
        No such project, half-written JSON, JSON of something else, or an entry id missing or used twice.
    """
    file = _project_file(Path(path))
    raw = _read_json(file)
    entries = raw.get("images")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProjectError(
            f"{file} is JSON but not a QuPath project.", "Give a project.qpproj that QuPath wrote."
        )
    address = raw.get("uri")
    old_project = address if isinstance(address, str) else None
    images = tuple(_entry(file, entry, old_project) for entry in entries)
    _refuse_duplicates(file, images)
    return Project(
        path=file,
        version=str(raw["version"]) if raw.get("version") is not None else None,
        images=_with_copies(_unique_stems(images)),
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
    except UnicodeDecodeError as error:
        raise ProjectError(f"{file} is no QuPath project.", "Give a project.qpproj or its folder.") from error
    except OSError as error:
        raise ProjectError(
            f"{file} cannot be read: {error}.", "Check the file and its permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ProjectError(
            f"{file} is not complete JSON ({error}).",
            "QuPath keeps the version before as project.qpproj.backup: copy that over it.",
        ) from error
    if not isinstance(raw, dict):
        raise ProjectError(
            f"{file} is JSON but not a QuPath project.", "Give a project.qpproj that QuPath wrote."
        )
    return raw


def _entry(file: Path, raw: Mapping[str, Any], old_project: str | None) -> ImageEntry:
    identity = raw.get("entryID")
    if isinstance(identity, bool) or not isinstance(identity, (int, str)) or not str(identity).strip():
        raise ProjectError(
            f"An image in {file} has no entry id.", "Open the project in QuPath 0.4 or newer and save it."
        )
    builders = _chain(raw.get("serverBuilder"))
    builder = _builder(builders)
    path, stale = find_image(builder.uri, old_project, file.parent)
    metadata = next((item for one in builders if (item := _mapping(one.get("metadata")))), {})
    name = str(raw.get("imageName") or metadata.get("name") or (path.name if path else f"image {identity}"))
    return ImageEntry(
        entry_id=str(identity),
        name=name,
        builder=builder,
        path=path,
        stale=stale,
        width=_whole(metadata.get("width")),
        height=_whole(metadata.get("height")),
        mpp=_calibration(metadata),
        metadata={key: str(value) for key, value in _mapping(raw.get("metadata")).items()},
        data_dir=file.parent / "data" / str(identity),
        stem=safe_stem(name),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _chain(raw: Any) -> list[Mapping[str, Any]]:
    """A server builder and those inside it, outermost first: a rotated image holds that of the file."""
    found: list[Mapping[str, Any]] = []
    while isinstance(raw, dict):
        found.append(raw)
        raw = raw.get("builder")
    return found


def _builder(builders: Sequence[Mapping[str, Any]]) -> ServerBuilder:
    """Address and arguments of the innermost; the type of the first that changes pixels, else ``uri``."""
    types = [str(builder.get("builderType", "uri")) for builder in builders]
    inner = builders[-1] if builders else {}
    uri, provider, arguments = inner.get("uri"), inner.get("providerClassName"), inner.get("args")
    return ServerBuilder(
        type=next((one for one in types if one not in _SAME_PIXELS), "uri"),
        uri=uri if isinstance(uri, str) else None,
        provider=str(provider) if provider else None,
        args=tuple(str(argument) for argument in arguments) if isinstance(arguments, list) else (),
    )


def _whole(value: Any) -> int | None:
    number = _positive(value)
    return int(number) if number is not None and 1 <= number < 2**31 else None


def _positive(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if 0 < value < 1e18 else None


def _calibration(metadata: Mapping[str, Any]) -> MicronsPerPixel | None:
    """Mean of pixel width and height where both are in microns, else None."""
    calibration = _mapping(metadata.get("pixelCalibration"))
    sizes = [_mapping(calibration.get(side)) for side in ("pixelWidth", "pixelHeight")]
    in_microns = [size.get("value") for size in sizes if str(size.get("unit", "")).lower() in _MICRONS]
    values = [value for value in map(_positive, in_microns) if value is not None]
    return MicronsPerPixel(sum(values) / 2) if len(values) == 2 else None


def safe_stem(name: str) -> str:
    """An image's name without its extension, as a file name on every system.

    ``export_ground_truth.groovy`` does the same, so that both mean the same file.
    """
    stem = _UNSAFE.sub("_", _EXTENSION.sub("", name)).strip(" .") or "image"
    return f"{stem}_" if _RESERVED.match(stem) else stem


def _unique_stems(images: Sequence[ImageEntry]) -> tuple[ImageEntry, ...]:
    """Where two images share a name, their entry ids tell their files apart."""
    stems = [image.stem for image in images]
    # Case-blind: Windows and macOS do not tell A.geojson from a.geojson. Again, as a longer name can be
    # that of a third image.
    while twice := {stem for stem, count in Counter(stem.lower() for stem in stems).items() if count > 1}:
        stems = [
            f"{stem}-{image.entry_id}" if stem.lower() in twice else stem
            for stem, image in zip(stems, images, strict=True)
        ]
    return tuple(replace(image, stem=stem) for image, stem in zip(images, stems, strict=True))


def _with_copies(images: Sequence[ImageEntry]) -> tuple[ImageEntry, ...]:
    """QuPath can hold an image twice, with the same pixels and often the same objects."""
    first: dict[str, str] = {}
    marked = []
    for image in images:
        file = str(image.path or image.builder.uri)
        marked.append(replace(image, copy_of=first.get(file)))
        first.setdefault(file, image.name)
    return tuple(marked)


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
        colors = [(str(row["name"]), row.get("color")) for row in rows]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return ()
    return tuple(PathClass(name, color if isinstance(color, int) else None) for name, color in colors)


def require_plain(entry: ImageEntry) -> None:
    """Refuse an image that QuPath shows rotated, cropped or otherwise changed.

    Raises
    ------
    SlideError
        The file's pixels are not where QuPath's coordinates say.
    """
    if entry.builder.type != "uri":
        raise SlideError(
            f"QuPath shows {entry.name} changed ({entry.builder.type}): what lies at a place in QuPath is "
            "not what lies there in the file.",
            "Add the image to the project unchanged, and annotate that.",
        )
