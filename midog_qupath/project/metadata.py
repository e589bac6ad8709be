"""Image metadata in ``project.qpproj``: keys added, everything else as QuPath wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from midog_qupath.errors import SafetyError
from midog_qupath.files import write_bytes
from midog_qupath.project.disk import writing
from midog_qupath.project.model import Project


def set_metadata(project: Project, wanted: Mapping[str, Mapping[str, str]]) -> None:
    """Set image metadata of a project: entry id -> key -> value.

    Raises
    ------
    SafetyError
        The project file is not what was opened (an image is gone, it changed meanwhile) or cannot be
        written; nothing is changed then.
    """
    wanted = {entry_id: values for entry_id, values in wanted.items() if values}
    if not wanted:
        return
    path = project.path
    with writing(path):
        before = path.read_bytes()
        changed = _with(before, wanted, project)
        if path.read_bytes() != before:
            raise _other(project)
        write_bytes(path, changed)


def _with(data: bytes, wanted: Mapping[str, Mapping[str, str]], project: Project) -> bytes:
    try:
        raw = json.loads(data.decode("utf-8-sig"))
        entries = {str(image["entryID"]): image for image in raw["images"]}
        for entry_id, values in wanted.items():
            _set(entries[entry_id], values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _other(project) from error
    return json.dumps(raw, indent=2, ensure_ascii=False).encode()


def _set(image: dict[str, Any], values: Mapping[str, str]) -> None:
    own = image.get("metadata")
    image["metadata"] = {**(own if isinstance(own, dict) else {}), **values}


def _other(project: Project) -> SafetyError:
    return SafetyError(
        f"{project.path} was changed by somebody else while it was read.",
        "Close the project in QuPath and run the command again.",
    )
