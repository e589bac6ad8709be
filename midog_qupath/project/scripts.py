"""The scripts that a pathologist runs inside QuPath, copied into a project's ``scripts/`` folder.

QuPath lists that folder under *Automate > Project scripts*. What was copied is remembered by checksum in
``midog-qupath/scripts.json``: a script that a person changed, or had there before, is never overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from midog_qupath.files import write_bytes
from midog_qupath.project.disk import writing
from midog_qupath.project.model import Project

State = Literal["new", "updated", "same", "kept"]


@dataclass(frozen=True)
class CopiedScript:
    """One script: where it lies, and whether it is new there, updated, the same already, or a person's."""

    path: Path
    state: State


def copy_scripts(project: Project, source: Path) -> tuple[CopiedScript, ...]:
    """Copy the Groovy scripts of ``source`` into the project.

    A file that is there and was not copied by this function, or was changed since, is ``kept``. Raises
    SafetyError where the folder cannot be written.
    """
    folder, record = project.folder / "scripts", project.ours / "scripts.json"
    known = _known(record)
    copied: list[CopiedScript] = []
    for script in sorted(source.glob("*.groovy")):
        path, content = folder / script.name, script.read_bytes()
        state = _state(path, content, known.get(script.name))
        if state in ("new", "updated"):
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, content)
        if state != "kept":
            known[script.name] = _digest(content)
        copied.append(CopiedScript(path, state))
    with writing(record):
        record.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(record, json.dumps(known, indent=1, sort_keys=True).encode())
    return tuple(copied)


def _state(path: Path, content: bytes, copied: str | None) -> State:
    if not path.exists():
        return "new"
    there = path.read_bytes()
    if there == content:
        return "same"
    return "updated" if _digest(there) == copied else "kept"


def _known(record: Path) -> dict[str, str]:
    """Script -> checksum as copied; nothing where the record is lost: then what is there stays."""
    try:
        raw = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in raw.items()} if isinstance(raw, Mapping) else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
