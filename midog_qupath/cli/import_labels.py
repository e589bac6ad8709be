"""``midog-qupath import-labels``: labels from data sets and other tools into a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midog_qupath.cli.common import (
    StoreChoice,
    TerminalProgress,
    class_map_option,
    json_option,
    print_json,
    project_argument,
    store_option,
)
from midog_qupath.errors import LabelsError
from midog_qupath.wording import counted, first_of

if TYPE_CHECKING:
    from midog_qupath.project.labels.plan import ImportPlan
    from midog_qupath.project.labels.write import ImportReport, LabelSource
    from midog_qupath.project.model import Project

#: Names printed before the rest is counted; ``--json`` holds all.
_NAMES = 10


@click.command("import-labels")
@project_argument
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILES...")
@click.option(
    "--image-table", type=click.Path(path_type=Path), metavar="CSV",
    help="Domain, case and extent of images: MIDOG's own table (Slide;...;Tumor;Scanner;...), or columns "
    "image[,case,domain,extent,cell_px] (extent: whole, regions or objects; cell_px: pixels).",
)  # fmt: skip
@click.option(
    "--whole", is_flag=True,
    help="In every image with a label in FILES all mitotic figures are labelled. Images without a label are "
    "never taken for images without mitoses.",
)  # fmt: skip
@click.option(
    "--label", "label", multiple=True, metavar="WORD=ROLE",
    help="What a label of FILES means: mitosis, normal, atypical, non_mitosis, region or ignore. Common "
    "words are known. May be repeated.",
)  # fmt: skip
@click.option(
    "--boxes", type=click.Choice(["corners", "sizes"]),
    help="How a COCO file writes boxes, in pixels: x0, y0, x1, y1 (MIDOG) or x, y, width, height; default: "
    "found out.",
)  # fmt: skip
@click.option(
    "--bring-back", is_flag=True,
    help="Also labels that an earlier import put into PROJECT and that somebody deleted since.",
)  # fmt: skip
@click.option("--image", metavar="NAME", help="The image that a GeoJSON file is of; default: its own name.")
@store_option
@class_map_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@json_option
def command(
    project: Path,
    files: tuple[Path, ...],
    store: StoreChoice,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Put labels from elsewhere into PROJECT (a project.qpproj or its folder) as annotations.

    FILES: MIDOG's or another COCO JSON; a CSV of points (columns image, x, y in pixels, label); GeoJSON, or
    folders of it, each file called after its image. Images are found by name, with or without folder and
    ending. What stands in the project already is not added again, nor what an earlier import brought and
    somebody deleted; nothing is changed or removed, and the project is backed up first. With --store sidecar
    the labels go to midog-qupath/ground-truth and the project stays as it is.

    Exit code 1 if an image could not be imported, a name fits several images, or none fits.
    """
    from midog_qupath.project.qpproj import open_project

    opened = open_project(project)
    source = _source(files, **asked)
    progress = TerminalProgress()
    report = _import(opened, store, source, progress, dry_run)
    summary = summarise(report, dry_run)
    if as_json:
        print_json(summary)
    else:
        _show(summary, progress)
        if report.table is not None:
            progress.note(
                f"Train on them with: midog-qupath export {opened.path} --store sidecar --image-table "
                f"{report.table}"
            )
    if not report.plan.images and not report.plan.ambiguous:
        raise LabelsError(
            f"No image of {opened.path} is named in {source.given.source}.",
            "Compare the names with `midog-qupath info`, or give --image NAME with a GeoJSON file.",
        )
    return 1 if report.errors or report.plan.ambiguous else 0


def _source(
    files: tuple[Path, ...],
    image_table: Path | None,
    whole: bool,
    label: tuple[str, ...],
    class_map: tuple[str, ...],
    bring_back: bool,
    **asked: Any,
) -> LabelSource:
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.labels.given import Words
    from midog_qupath.project.labels.read import read_labels
    from midog_qupath.project.labels.tables import read_image_table
    from midog_qupath.project.labels.write import LabelSource

    names = ClassMap.parse(class_map)
    given = read_labels(files, Words(names, label), **asked)
    facts = read_image_table(image_table) if image_table is not None else ()
    return LabelSource(given, facts, names, whole, bring_back)


def _import(
    project: Project, store: StoreChoice, source: LabelSource, progress: TerminalProgress, dry_run: bool
) -> ImportReport:
    from midog_qupath.project.labels.write import import_beside_project, import_into_project

    factory = store.open(project, progress)
    if store.name == "sidecar":
        return import_beside_project(project, project.ours / "ground-truth", source, progress, dry_run)
    return import_into_project(project, factory, source, progress, dry_run)


def summarise(report: ImportReport, dry_run: bool) -> dict[str, Any]:
    """The report as JSON says it."""
    from midog_qupath.project.labels.plan import counts_by_class

    plan, errors = report.plan, report.errors
    rows = [
        {
            "name": image.entry.name,
            "entry_id": image.entry.entry_id,
            "in_file": image.name,
            "added": 0 if image.entry.entry_id in errors else len(image.add),
            "classes": {} if image.entry.entry_id in errors else counts_by_class(image.add),
            "already_there": image.there,
            "deleted_since": image.deleted,
            "outside": image.outside,
            "metadata": {} if image.entry.entry_id in errors else dict(image.metadata),
            "metadata_kept": dict(image.kept),
            "error": errors.get(image.entry.entry_id),
        }
        for image in plan.images
    ]
    return {
        "source": plan.source,
        "dry_run": dry_run,
        "images": rows,
        "added": sum(int(str(row["added"])) for row in rows),
        **_unmatched(plan),
        "backup": str(report.backup) if report.backup else None,
        "image_table": str(report.table) if report.table else None,
    }


def _unmatched(plan: ImportPlan) -> dict[str, Any]:
    return {
        "not_in_project": list(plan.missing),
        "ambiguous": {name: list(fits) for name, fits in plan.ambiguous.items()},
        "unlabelled_in_file": list(plan.unlabelled),
        "not_in_file": list(plan.others),
        "left_out": dict(plan.left_out),
    }


def _show(summary: dict[str, Any], progress: TerminalProgress) -> None:
    for row in summary["images"]:
        if row["error"] is not None:
            progress.warn(f"{row['name']}: {row['error']}")
            continue
        added = ", ".join(f"{count} {name}" for name, count in row["classes"].items()) or "nothing new"
        more = [f"{row['already_there']} there already"] if row["already_there"] else []
        more += [f"{row['deleted_since']} deleted since an earlier import"] if row["deleted_since"] else []
        more += [f"{row['outside']} outside the image, left out"] if row["outside"] else []
        more += [f"{key} = {value}" for key, value in row["metadata"].items()]
        progress.note(f"{row['name']}: {'; '.join([added, *more])}")
        for key, value in row["metadata_kept"].items():
            progress.warn(f"{row['name']}: its metadata say {key} = {value}; that stays.")
    verb = "would be added to" if summary["dry_run"] else "added to"
    done = sum(row["error"] is None for row in summary["images"])
    progress.note(f"{counted(summary['added'], 'label')} {verb} {counted(done, 'image')}.")
    if gone := sum(row["deleted_since"] for row in summary["images"]):
        progress.note(
            f"{counted(gone, 'label')} of earlier imports, deleted since, left out: "
            "--bring-back adds them again."
        )
    _show_unmatched(summary, progress)


def _show_unmatched(summary: dict[str, Any], progress: TerminalProgress) -> None:
    for name, fits in summary["ambiguous"].items():
        progress.warn(f"{name} fits several images and was left out: {', '.join(fits)}.")
    said = {
        "not_in_project": "of the file not in the project",
        "unlabelled_in_file": "without a label in the file, left as they are",
        "not_in_file": "of the project not in the file",
    }
    for key, what in said.items():
        if names := summary[key]:
            progress.note(f"{counted(len(names), 'image')} {what}: {first_of(names, _NAMES)}.")
    for reason, count in summary["left_out"].items():
        progress.note(f"{counted(count, 'object')} left out: {reason}.")
    if summary["backup"]:
        progress.note(f"The project as it was: {summary['backup']}")
