"""``midog-qupath info``: what is in a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from midog_qupath.cli.common import (
    StoreChoice,
    TerminalProgress,
    class_map_option,
    ground_truth_option,
    json_option,
    mpp_option,
    print_json,
    project_argument,
    store_option,
)
from midog_qupath.wording import counted, listed

#: Problems printed before the rest is counted; ``--json`` holds all.
_PROBLEMS = 20


@click.command("info")
@project_argument
@store_option
@ground_truth_option
@class_map_option
@mpp_option
@click.option(
    "--thumbnail", type=click.Path(path_type=Path), metavar="DIR",
    help="Also draw each image, small (8 µm per pixel), with the outline of its tissue into this folder.",
)  # fmt: skip
@json_option
def command(
    project: Path,
    store: StoreChoice,
    ground_truth: Path | None,
    class_map: tuple[str, ...],
    mpp: float | None,
    thumbnail: Path | None,
    as_json: bool,
) -> int:
    """Show images, annotations and problems of PROJECT (a project.qpproj or its folder).

    Exit code 0 if every image can be worked with, 1 if a problem keeps work from one. What is only worth
    knowing (an address that no longer holds while the image is found relative to the project, a coarse
    pixel size, no annotations yet) stands among the problems and does not change the exit code.
    """
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.info import describe
    from midog_qupath.project.qpproj import open_project

    names = ClassMap.parse(class_map)
    opened = open_project(project)
    progress = TerminalProgress()
    factory, reason = store.choose(opened, progress)
    with factory() as objects:
        info = describe(opened, objects, names, ground_truth, mpp, progress)
    if thumbnail is not None:
        from midog_qupath.project.pictures import draw_thumbnails

        draw_thumbnails(opened, thumbnail, mpp, progress)
    if as_json:
        print_json(info.data)
    else:
        _show(info.data, reason)
    return 0 if info.usable else 1


def _show(data: dict[str, Any], reason: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "file", "pixels", "µm/px", "domain", "case", "extent", "annotations"):
        table.add_column(heading)
    for row in data["images"]:
        table.add_row(*_cells(row))
    console.print(table)
    console.print(f"Store: {reason}", soft_wrap=True, markup=False)
    annotations = listed(data["classes"]) or "none"
    images = counted(len(data["images"]), "image")
    console.print(f"{images}, annotations: {annotations}", soft_wrap=True, markup=False)
    progress = TerminalProgress()
    for problem in data["problems"][:_PROBLEMS]:
        progress.warn(problem)
    more = len(data["problems"]) - _PROBLEMS
    if more > 0:
        progress.warn(f"{more} more problems; --json lists all.")


def _cells(row: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    file = ("moved" if row["stale"] else "ok") if row["readable"] else "not readable"
    size = f"{row['width']} x {row['height']}" if row["width"] and row["height"] else "?"
    mpp = f"{row['mpp']:.4g}" if row["mpp"] else "?"
    labels = (row["domain"] or "", row["case"] or "", row["extent"] or "", listed(row["classes"]) or "none")
    return [escape(cell) for cell in (row["name"], file, size, mpp, *labels)]
