"""``midog-qupath export``: training data from what pathologists drew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from midog_qupath.dataset.export import ExportReport


@click.command("export")
@project_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DATASET",
    help="Folder of the dataset; default: <project>/midog-qupath/dataset. An older dataset there is replaced.",
)  # fmt: skip
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(["coco"]),
    help="coco: also write PNG tiles of 512 px at 0.25 µm/px and a COCO file.",
)  # fmt: skip
@click.option(
    "--whole", multiple=True, metavar="GLOB",
    help="Images (name pattern) in which every mitosis is labelled, everywhere. May be repeated.",
)  # fmt: skip
@click.option(
    "--image-table", type=click.Path(path_type=Path), metavar="CSV",
    help="Columns image, case, domain, extent, cell_px: overrides the project's metadata.",
)  # fmt: skip
@click.option(
    "--object-table", type=click.Path(path_type=Path), metavar="CSV",
    help="Columns image, source_id or x and y (pixels), label, votes_atypical, votes_total, case.",
)  # fmt: skip
@click.option("--split-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another split.")
@click.option("--force", is_flag=True, help="Export images coarser than 0.6 µm/px too.")
@store_option
@ground_truth_option
@class_map_option
@mpp_option
@json_option
def command(
    project: Path,
    output: Path | None,
    formats: tuple[str, ...],
    whole: tuple[str, ...],
    image_table: Path | None,
    object_table: Path | None,
    split_seed: int,
    force: bool,
    store: str | None,
    ground_truth: Path | None,
    class_map: tuple[str, ...],
    mpp: float | None,
    as_json: bool,
) -> int:
    """Write the labels of PROJECT and the pixels around them as a training dataset.

    Annotations count by class; what this tool wrote and nobody touched is left out. Exit code 1 if an
    image could not be exported (the others are).
    """
    from midog_qupath.dataset.export import ExportOptions
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.qpproj import open_project

    opened = open_project(project)
    options = ExportOptions(
        output=output or opened.ours / "dataset",
        class_map=ClassMap.parse(class_map),
        ground_truth=ground_truth,
        whole=whole,
        image_table=image_table,
        object_table=object_table,
        mpp=mpp,
        force=force,
        split_seed=split_seed,
        coco="coco" in formats,
    )
    progress = TerminalProgress()
    report = _run(opened, store, options, progress)
    if as_json:
        print_json(summary(report))
    else:
        _show(report)
    for name, error in report.skipped.items():
        progress.warn(f"{name} was left out: {error}")
    return 1 if report.skipped else 0


def export_with_defaults(project: Path, progress: TerminalProgress) -> Path:
    """Export a project as ``export PROJECT`` does; the dataset's folder."""
    from midog_qupath.dataset.export import ExportOptions
    from midog_qupath.project.qpproj import open_project

    opened = open_project(project)
    return _run(opened, None, ExportOptions(output=opened.ours / "dataset"), progress).dataset.folder


def _run(opened: Any, store: str | None, options: Any, progress: TerminalProgress) -> ExportReport:
    from midog_qupath.dataset.export import export_project
    from midog_qupath.errors import StoreError
    from midog_qupath.project.stores.choose import choose_store

    if options.ground_truth is not None and not options.ground_truth.is_dir():
        raise StoreError(
            f"There is no folder {options.ground_truth}.", "Give the folder that holds <image>.geojson files."
        )
    factory, reason = choose_store(opened, store)
    progress.note(f"Store: {reason}")
    with factory() as objects:
        return export_project(opened, objects, options, progress)


def summary(report: ExportReport) -> dict[str, Any]:
    """The report as printed by ``--json``."""
    data = report.dataset
    labels = {
        image.name: Counter(o.label for o in data.objects if o.image == image.name) for image in data.images
    }
    return {
        "dataset": str(data.folder),
        "images": [
            {
                "name": image.name,
                "extent": image.extent,
                "mm2": round(image.labelled_mm2, 4),
                "split": image.split if image.cell_px is None else None,
                "objects": dict(sorted(labels[image.name].items())),
            }
            for image in data.images
        ],
        "classes": dict(sorted(Counter(o.label for o in data.objects).items())),
        "ignored": dict(report.ignored),
        "splits": dict(sorted(Counter(o.split for o in data.objects).items())),
        "skipped": {name: str(error) for name, error in report.skipped.items()},
    }


def _show(report: ExportReport) -> None:
    data = summary(report)
    for row in data["images"]:
        objects = ", ".join(f"{count} {label}" for label, count in row["objects"].items()) or "no objects"
        area = f"{row['mm2']:.3f} mm²" if row["extent"] != "objects" else "only the objects are known"
        click.echo(f"{row['name']}: {row['extent']}, {area}: {objects}")
    classes = ", ".join(f"{count} {label}" for label, count in data["classes"].items())
    splits = ", ".join(f"{count} {split}" for split, count in data["splits"].items())
    click.echo(f"{data['dataset']}: {len(data['images'])} images; {classes}; objects by split: {splits}")
    if data["ignored"]:
        ignored = ", ".join(f"{count} {label}" for label, count in data["ignored"].items())
        click.echo(f"Ignored (no meaning to us, see --class-map): {ignored}")
