"""Which store a command takes, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from midog_qupath.errors import QuPathMissingError
from midog_qupath.project.geojson import read_features
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore, find_qupath
from midog_qupath.project.stores.sidecar import SidecarStore

StoreFactory = Callable[[], ProjectStore]


def choose_store(project: Project, choice: str | None) -> tuple[StoreFactory, str]:
    """What opens the store for a project, and in words which it is and why.

    ``choice``: paquo, native, sidecar, or None: paquo where QuPath is found, else native.

    Raises
    ------
    QuPathMissingError
        If paquo is asked for and there is no QuPath.
    """
    if choice == "sidecar":
        return lambda: SidecarStore(project), "sidecar (asked for): GeoJSON files, the project is not touched"
    if choice == "native":
        return lambda: NativeStore(project), "native (asked for): data files read without QuPath"
    qupath = find_qupath()
    if qupath is not None:
        asked = " (asked for)" if choice else ""
        return lambda: PaquoStore(project), f"paquo{asked}: through QuPath at {qupath}"
    if choice == "paquo":
        raise QuPathMissingError(
            "No QuPath was found on this machine.",
            "Install one with `paquo get_qupath`, or use --store native.",
        )
    return (
        lambda: NativeStore(project),
        "native: no QuPath found (`paquo get_qupath` installs one; it is not needed)",
    )


def people_objects(store: ProjectStore, entry: ImageEntry, ground_truth: Path | None) -> list[PathObject]:
    """Objects of an image with ground truth from a folder of GeoJSON files instead, where one is given."""
    if ground_truth is None:
        return store.read(entry)
    path = ground_truth / f"{entry.stem}.geojson"
    return read_features(path) if path.is_file() else []
