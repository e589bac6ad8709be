"""Which store a command takes, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from midog_qupath.errors import QuPathMissingError, StoreError
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore, find_qupath
from midog_qupath.project.stores.sidecar import SidecarStore, annotation_file, read_annotations

StoreFactory = Callable[[], ProjectStore]


def choose_store(
    project: Project, choice: str | None, *, check: bool = True, warn: Callable[[str], None] | None = None
) -> tuple[StoreFactory, str]:
    """What opens the store for a project, and in words which it is and why.

    ``choice``: paquo, native, sidecar, or None: paquo where QuPath is found, else native. ``check``: the
    native store refuses a data file that disagrees with its ``summary.json``; ``warn`` is told once of an
    image that has none.

    Raises
    ------
    QuPathMissingError
        If paquo is asked for and there is no QuPath.
    """
    if choice == "sidecar":
        return lambda: SidecarStore(project), "sidecar (asked for): GeoJSON files, the project is not touched"
    told = _once(warn)
    if choice == "native":
        return lambda: NativeStore(project, check, told), "native (asked for): data files read without QuPath"
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
        lambda: NativeStore(project, check, told),
        "native: no QuPath found (`paquo get_qupath` installs one; it is not needed)",
    )


def _once(warn: Callable[[str], None] | None) -> Callable[[str], None] | None:
    """``warn``, but what was said once is not said again by the next store of the same command."""
    said: set[str] = set()

    def tell(message: str) -> None:
        if warn is not None and message not in said:
            said.add(message)
            warn(message)

    return tell if warn is not None else None


def people_objects(store: ProjectStore, entry: ImageEntry, ground_truth: Path | None) -> list[PathObject]:
    """Objects of an image, from a folder of GeoJSON files instead of the store where one is given.

    Raises
    ------
    StoreError
        If there is no such folder, a file in it is broken, or an image of which all mitoses are said to be
        labelled has no file in it: it would be taken for one without any.
    """
    if ground_truth is None:
        return store.read(entry)
    if not ground_truth.is_dir():
        raise StoreError(
            f"There is no folder {ground_truth}.", "Give the folder that holds <image>.geojson files."
        )
    if entry.metadata.get("labelled") == "whole" and annotation_file(ground_truth, entry) is None:
        raise StoreError(
            f"{entry.name} is labelled as a whole, and {ground_truth} has no {entry.stem}.geojson.",
            "Export its annotations too; an image without any gets a file without features.",
        )
    return read_annotations(ground_truth, entry)
