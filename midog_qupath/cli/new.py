"""``midog-qupath new``: a project from images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from midog_qupath.cli.common import TerminalProgress, json_option, print_json
from midog_qupath.errors import ProjectError

if TYPE_CHECKING:
    from midog_qupath.project.model import Project


@click.command("new")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGES...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="PROJECT",
    help="Folder of the new project, or the path of its .qpproj file.",
)  # fmt: skip
@click.option(
    "--mpp", type=click.FloatRange(0.05, 10.0),
    help="Microns per pixel of all images; default: what each file says.",
)  # fmt: skip
@json_option
def command(images: tuple[Path, ...], output: Path, mpp: float | None, as_json: bool) -> None:
    """Make a project that QuPath opens from IMAGES (files, or folders of images).

    The images stay where they are. Nothing is written unless every image can be read.
    """
    from midog_qupath.project.create import NewImage, create_project

    progress = TerminalProgress()
    project = create_project(output, [NewImage(path, mpp) for path in _expand(images)], progress)
    unknown = [image.name for image in project.images if image.mpp is None]
    if unknown:
        progress.warn(
            f"The pixel size of {len(unknown)} images is not known ({unknown[0]}...): set it in QuPath, or "
            "give it to every command with --mpp."
        )
    if as_json:
        print_json(_rows(project))
    else:
        progress.note(f"{project.path}: {len(project.images)} images.")


def _rows(project: Project) -> dict[str, object]:
    rows = [
        {
            "name": image.name,
            "entry_id": image.entry_id,
            "address": image.address,
            "width": image.width,
            "height": image.height,
            "mpp": image.mpp,
        }
        for image in project.images
    ]
    return {"path": str(project.path), "images": rows}


def _expand(paths: tuple[Path, ...]) -> list[Path]:
    """Folders become the images in them, by name."""
    from midog_qupath.slides.open import SUFFIXES

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        # Hidden files beside images are notes of macOS, with the same ending.
        inside = (item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
        chosen = sorted(item for item in inside if item.suffix.lower() in SUFFIXES)
        if not chosen:
            known = ", ".join(sorted(SUFFIXES))
            raise ProjectError(f"There are no images in {path}.", f"They end in {known}.")
        found += chosen
    return found
