"""``midog-qupath new``: a project from images."""

from __future__ import annotations

from pathlib import Path

import click

from midog_qupath.cli.common import TerminalProgress, json_option, print_json


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

    The images stay where they are. Nothing is written unless every image can be opened.
    """
    from midog_qupath.project.create import NewImage, create_project

    found = [NewImage(path, mpp) for path in _expand(images)]
    project = create_project(output, found)
    if as_json:
        rows = [
            {"name": image.name, "entry_id": image.entry_id, "mpp": image.mpp} for image in project.images
        ]
        print_json({"path": str(project.path), "images": rows})
        return
    progress = TerminalProgress()
    progress.note(f"{project.path}: {len(project.images)} images.")
    unknown = [image.name for image in project.images if image.mpp is None]
    if unknown:
        progress.warn(f"{len(unknown)} images have no pixel size ({unknown[0]} ...): give it with --mpp.")


def _expand(paths: tuple[Path, ...]) -> list[Path]:
    """Folders become the images in them, by name."""
    from midog_qupath.slides.open import SUFFIXES

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(item for item in path.iterdir() if item.suffix.lower() in SUFFIXES)
        else:
            found.append(path)
    return found
