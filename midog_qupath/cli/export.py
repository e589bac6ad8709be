"""``midog-qupath export``: training data from a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from midog_qupath.dataset.store import Dataset
    from midog_qupath.progress import Progress


@click.command("export")
@project_argument
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DATASET",
    help="Folder of the dataset; default: <project>/midog-qupath/dataset. An older dataset is replaced.",
)  # fmt: skip
@click.option(
    "--format", "extra", type=click.Choice(["coco"]),
    help="Also write PNG tiles (512 px at 0.25 µm/px) and COCO files into DATASET/coco.",
)  # fmt: skip
@store_option
@ground_truth_option
@class_map_option
@click.option(
    "--whole", multiple=True, metavar="GLOB",
    help="Images in which every mitosis of the whole image is labelled, e.g. 'field_*'. May be repeated.",
)  # fmt: skip
@click.option(
    "--image-table", type=click.Path(path_type=Path), metavar="CSV",
    help="Overrides the project: columns image[,case,domain,extent,cell_px] (extent: whole, regions or "
    "objects; cell_px: side of a mosaic's cells in pixels).",
)  # fmt: skip
@click.option(
    "--object-table", type=click.Path(path_type=Path), metavar="CSV",
    help="Overrides the project: columns image and source_id or x,y (pixels), "
    "[label,votes_atypical,votes_total,case].",
)  # fmt: skip
@mpp_option
@click.option("--force", is_flag=True, help="Also export images coarser than 0.6 µm/px.")
@click.option(
    "--split-seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Another number shares the cases out otherwise.",
)  # fmt: skip
@json_option
def command(
    project: Path,
    output: Path | None,
    extra: str | None,
    store: StoreChoice,
    as_json: bool,
    **asked: Any,
) -> int:
    """Make training data of what pathologists drew in PROJECT (a project.qpproj or its folder).

    Polygons, rectangles, ellipses and points whose class means a mitosis (normal, atypical or unknown) or a
    look-alike are taken, with the pixels of what is labelled: the inside of Region* annotations, the whole
    image (--whole), else only the objects. Exit code 1 if an image had to be left out.
    """
    dataset = _export(project, output, store, TerminalProgress(), coco=extra == "coco", **asked)
    _report(dataset, as_json)
    return 1 if dataset.meta.skipped else 0


def export_with_defaults(project: Path, progress: Progress) -> Path:
    """Export a project as the command without options does; the folder of the dataset."""
    return _export(project, None, StoreChoice(), progress).folder


def _export(
    project: Path,
    output: Path | None,
    store: StoreChoice,
    progress: Progress,
    class_map: tuple[str, ...] = (),
    **asked: Any,
) -> Dataset:
    from midog_qupath.dataset.export import export_project
    from midog_qupath.dataset.read_image import ExportOptions
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.qpproj import open_project

    opened = open_project(project)
    options = ExportOptions(
        folder=output or opened.ours / "dataset", class_map=ClassMap.parse(class_map), **asked
    )
    factory, reason = store.choose(opened, progress)
    progress.note(f"Annotations from {options.ground_truth}" if options.ground_truth else f"Store: {reason}")
    with factory() as objects:
        return export_project(opened, objects, options, progress)


def _report(dataset: Dataset, as_json: bool) -> None:
    from midog_qupath.dataset.summary import summarise

    summary = summarise(dataset)
    if as_json:
        print_json(summary)
    else:
        _show(summary)
    if skipped := summary["skipped"]:
        TerminalProgress().warn(f"Left out ({counted(len(skipped), 'image')}): {', '.join(skipped)}.")


def _show(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "domain", "split", "extent"):
        table.add_column(heading, no_wrap=True)
    table.add_column("mm²", justify="right")
    table.add_column("objects")
    for row in summary["images"]:
        objects = listed(row["objects"]) or "none"
        split = row["split"] or "by object"
        table.add_row(row["name"], row["domain"], split, row["extent"], f"{row['mm2']:.3f}", objects)
    console.print(table)
    for line in _lines(summary):
        console.print(line, soft_wrap=True, markup=False)


def _lines(summary: dict[str, Any]) -> list[str]:
    lines = [f"Objects: {listed(summary['classes'])}"]
    if summary["ignored"]:
        lines.append(f"Ignored annotations: {listed(summary['ignored'])}")
    if summary["unlabelled"]:
        lines.append(
            f"Without labels, and not in the dataset: {counted(len(summary['unlabelled']), 'image')}."
        )
    for split, held in summary["splits"].items():
        lines.append(
            f"{split}: {counted(held['cases'], 'case')}, {counted(held['mitoses'], 'mitosis', 'mitoses')}, "
            f"{counted(held['look_alikes'], 'look-alike')}"
        )
    return [*lines, f"Dataset: {summary['dataset']}"]
