"""Where the image of a project lies on this machine."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

_DRIVE = re.compile(r"^/?([A-Za-z]:[\\/].*)$")


def find_image(uri: str | None, old_project: str | None, folder: Path) -> tuple[Path | None, bool]:
    """The file of an image, and whether its address in the project no longer holds.

    As QuPath does: the address itself; else the same way from the project as when it was last saved
    (``old_project`` is the address that the project had then, ``folder`` where it lies now); else, where
    QuPath would ask, the longest end of the address that exists below the project's folder.
    """
    address = path_text(uri)
    if address is None:
        return None, False
    direct = folder / _local(address)
    if _is_file(direct):
        return direct, False
    moved = next((path for path in _moved(address, path_text(old_project), folder) if _is_file(path)), None)
    return moved, moved is not None


def path_text(uri: str | None) -> str | None:
    """The decoded path that an address names, ``/`` between its parts; None if it names no file.

    ``file:/C:/a%20b.svs`` is ``C:/a b.svs``, ``file://server/share/a.svs`` and ``file:////server/share/a.svs``
    are ``//server/share/a.svs``.
    """
    if uri is None:
        return None
    if _DRIVE.match(uri):
        return uri.replace("\\", "/")
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme not in ("file", ""):
        return None
    text = unquote(parts.path)
    if parts.netloc and parts.netloc != "localhost":
        return f"//{parts.netloc}{text}"
    drive = _DRIVE.match(text)
    if drive:
        return drive.group(1)
    # Java writes a share as file:////server/share; any other number of slashes begins a plain path.
    return text if text.startswith("//") and text[2:3] != "/" else re.sub("^/+", "/", text) or None


def _local(address: str) -> Path:
    return Path(PureWindowsPath(address)) if os.name == "nt" else Path(address)


def _moved(address: str, old_project: str | None, folder: Path) -> Iterator[Path]:
    if old_project is not None and old_project.startswith("/") == address.startswith("/"):
        relative = posixpath.relpath(address, posixpath.dirname(old_project))
        yield Path(os.path.normpath(folder / relative))
    names = [name for name in PurePosixPath(address).parts if not name.startswith("/") and ":" not in name]
    # The longest end first: images/a/x.tif before x.tif.
    for start in range(len(names)):
        yield folder.joinpath(*names[start:])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # A folder of somebody else, a name too long for this system: as good as absent.
        return False
