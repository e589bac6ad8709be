"""``midog-qupath info``: what is in a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from midog_qupath.cli.common import (
    TerminalProgress,
    class_map_option,
    ground_truth_option,
    json_option,
    mpp_option,
    print_json,
    project_argument,
    store_option,
)


@click.command("info")
@project_argument
@store_option
@ground_truth_option
@class_map_option
@mpp_option
@json_option
def command(
    project: Path,
    store: str | None,
    ground_truth: Path | None,
    class_map: tuple[str, ...],
    mpp: float | None,
    as_json: bool,
) -> int:
    """Show images, annotations and problems of PROJECT (a project.qpproj or its folder).

    Exit code 0 if every image can be worked with, 1 if a problem keeps work from one. Addresses that no
    longer hold are told, and no problem where the image is found relative to the project.
    """
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.info import describe
    from midog_qupath.project.qpproj import open_project
    from midog_qupath.project.stores.choose import choose_store

    opened = open_project(project)
    factory, reason = choose_store(opened, store)
    with factory() as objects:
        info = describe(opened, objects, ClassMap.parse(class_map), ground_truth, mpp)
    if as_json:
        print_json(info.data)
    else:
        _show(info.data, reason)
    return 0 if info.usable else 1


def _show(data: dict[str, Any], reason: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "pixels", "µm/px", "domain", "case", "extent", "annotations"):
        table.add_column(heading)
    for row in data["images"]:
        size = f"{row['width']} x {row['height']}" if row["readable"] else "not readable"
        classes = ", ".join(f"{count} {name}" for name, count in row["classes"].items())
        mpp = f"{row['mpp']:.4g}" if row["mpp"] else "?"
        table.add_row(
            row["name"], size, mpp, row["domain"] or "", row["case"] or "", row["extent"] or "", classes
        )
    console.print(table)
    console.print(f"Store: {reason}", soft_wrap=True)
    classes = ", ".join(f"{count} {name}" for name, count in data["classes"].items())
    console.print(f"Annotations: {classes or 'none'}", soft_wrap=True, markup=False)
    progress = TerminalProgress()
    for problem in data["problems"]:
        progress.warn(problem)
