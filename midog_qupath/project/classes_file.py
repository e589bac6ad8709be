"""``classifiers/classes.json``: the classes of a project and their colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from midog_qupath.errors import StoreError
from midog_qupath.files import write_json
from midog_qupath.project.model import PathClass, Project


def ensure_classes(project: Project, classes: Sequence[PathClass]) -> bool:
    """Add the classes the project lacks, with colours; whether any was added.

    Existing classes and whatever else the file holds stay as they are. QuPath shows the project's
    colours, whatever the objects carry, so this comes before objects of a new class.
    """
    path = project.folder / "classifiers" / "classes.json"
    content = _content(path)
    known = {normalised(str(item.get("name"))) for item in content["pathClasses"]}
    missing = [item for item in classes if normalised(item.name) not in known]
    if not missing:
        return False
    content["pathClasses"] += [
        {"name": item.name} if item.color is None else {"name": item.name, "color": java_int(item.color)}
        for item in missing
    ]
    try:
        write_json(path, content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}.", "Ask for write access to it.") from error
    return True


def normalised(name: str) -> str:
    """A class name as QuPath prints it: parts of a derived class are separated by ``': '``."""
    return ": ".join(part.strip() for part in name.split(":"))


def java_int(color: int) -> int:
    """A packed ARGB colour as Java's signed 32-bit integer."""
    return (color + 2**31) % 2**32 - 2**31


def _content(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"pathClasses": []}
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    classes = content.get("pathClasses") if isinstance(content, dict) else None
    if not isinstance(classes, list) or not all(isinstance(item, dict) for item in classes):
        raise _unusable(path, "no list of classes in it")
    return dict(content)


def _unusable(path: Path, why: object) -> StoreError:
    return StoreError(
        f"{path} is not a list of classes: {why}.", "Open the project in QuPath and save its classes."
    )
