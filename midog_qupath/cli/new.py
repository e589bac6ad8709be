"""``midog-qupath new``: a project from images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midog_qupath.cli.common import TerminalProgress, json_option, print_json
from midog_qupath.errors import ProjectError
from midog_qupath.wording import counted

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
@click.option(
    "--image-table", type=click.Path(path_type=Path), metavar="CSV",
    help="What is known of the images: columns image[,case,domain,extent,cell_px] (extent: whole, regions or "
    "objects; cell_px: side of a mosaic's cells in pixels), or MIDOG's own table.",
)  # fmt: skip
@json_option
def command(
    images: tuple[Path, ...], output: Path, mpp: float | None, image_table: Path | None, as_json: bool
) -> None:
    """Make a project that QuPath opens from IMAGES (files, or folders of images).

    The images stay where they are. Nothing is written unless every image can be read. The table's lines find
    their images by name, with or without folder and ending.
    """
    from midog_qupath.project.create import NewImage, create_project

    progress = TerminalProgress()
    paths = _expand(images)
    known = _facts(paths, image_table, progress)
    new = [NewImage(path, mpp, metadata) for path, metadata in zip(paths, known, strict=True)]
    project = create_project(output, new, progress)
    unknown = [image.name for image in project.images if image.mpp is None]
    if unknown:
        progress.warn(
            f"The pixel size of {counted(len(unknown), 'image')} is not known ({unknown[0]}...): set it in "
            "QuPath, or give it to every command with --mpp."
        )
    if as_json:
        print_json(_rows(project))
    else:
        progress.note(f"{project.path}: {counted(len(project.images), 'image')}.")


def _facts(
    paths: Sequence[Path], image_table: Path | None, progress: TerminalProgress
) -> list[Mapping[str, str]]:
    """The metadata that a table gives of each image."""
    from midog_qupath.project.labels.match import Names
    from midog_qupath.project.labels.tables import read_image_table

    if image_table is None:
        return [{} for _ in paths]
    names = Names(([path.as_posix(), path.name], number) for number, path in enumerate(paths))
    found: dict[int, Mapping[str, str]] = {}
    unused = []
    for line in read_image_table(image_table):
        fits = names.find(line.image)
        if len(fits) > 1 or (fits and fits[0] in found):
            what = "several images" if len(fits) > 1 else f"{paths[fits[0]].name}, as another line does"
            raise ProjectError(
                f"{image_table}: {line.image} fits {what}.", "Give names that tell them apart."
            )
        if fits:
            found[fits[0]] = line.metadata
        else:
            unused.append(line.image)
    _say_what_fits_nothing(paths, found, unused, image_table, progress)
    return [found.get(number, {}) for number in range(len(paths))]


def _say_what_fits_nothing(
    paths: Sequence[Path],
    found: Mapping[int, object],
    unused: Sequence[str],
    image_table: Path,
    progress: TerminalProgress,
) -> None:
    if not found:
        raise ProjectError(
            f"{image_table} names none of the images ({', '.join(unused[:3])}).", "Correct the names in it."
        )
    without = [path.name for number, path in enumerate(paths) if number not in found]
    for names, thing, what in (
        (unused, "line", "In the table, without an image"),
        (without, "image", "Not in the table"),
    ):
        if names:
            told = f"{', '.join(names[:5])}{'...' if len(names) > 5 else '.'}"
            progress.warn(f"{what} ({counted(len(names), thing)}): {told}")


def _rows(project: Project) -> dict[str, object]:
    rows = [
        {
            "name": image.name,
            "entry_id": image.entry_id,
            "address": image.address,
            "width": image.width,
            "height": image.height,
            "mpp": image.mpp,
            "metadata": dict(image.metadata),
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
