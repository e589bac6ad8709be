"""``midog-qupath undo``: a run of ``annotate`` taken out of a project again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midog_qupath.cli.common import (
    StoreChoice,
    TerminalProgress,
    json_option,
    print_json,
    project_argument,
    store_option,
)
from midog_qupath.wording import counted

if TYPE_CHECKING:
    from midog_qupath.project.undo import UndoReport


@click.command("undo")
@project_argument
@click.argument("run", required=False)
@store_option
@json_option
def command(project: Path, run: str | None, store: StoreChoice, as_json: bool) -> int:
    """Take RUN (default: the newest that is not undone) out of PROJECT again.

    Detections of the run that nobody touched go; those of earlier runs that it had replaced come back. What a
    person drew, changed, reviewed or deleted stays so. The images are backed up first. Exit code 1 if an
    image could not be written: run it again for those.
    """
    from midog_qupath.project.qpproj import open_project
    from midog_qupath.project.undo import run_to_undo, store_to_undo, undo_run

    opened, progress = open_project(project), TerminalProgress()
    chosen = run_to_undo(opened, run)
    store = StoreChoice(store_to_undo(chosen, store.name), store.check)
    report = undo_run(opened, store.open(opened, progress), chosen.run, progress)
    if as_json:
        print_json(_as_json(report))
    else:
        _show(report, beside=all(image.state == "sidecar" for image in chosen.images))
    for image in report.failed:
        progress.warn(f"{image.name}: {image.error}")
    return 1 if report.failed else 0


def _as_json(report: UndoReport) -> dict[str, Any]:
    return {
        "run": report.run,
        "store": report.store,
        "backup": str(report.backup) if report.backup else None,
        "images": [
            {
                "name": image.name,
                "removed": image.removed,
                "put_back": image.put_back,
                "kept": image.kept,
                "left_out": image.left_out,
                "error": str(image.error) if image.error else None,
            }
            for image in report.images
        ],
    }


def _show(report: UndoReport, beside: bool) -> None:
    done = [image for image in report.images if image.error is None]
    removed, put_back, kept, left_out = (
        sum(getattr(image, what) for image in done) for what in ("removed", "put_back", "kept", "left_out")
    )
    images = counted(len(report.images), "image")
    click.echo(f"Run {report.run} is undone in {len(done)} of {images} by {report.store}")
    click.echo(
        f"{removed} of its detections removed, {put_back} of earlier runs put back; {kept} stay because a "
        f"person touched them, {left_out} did not come back beside what a person kept or deleted"
    )
    if beside and not removed + kept:
        click.echo(
            "The run stood in GeoJSON files only, not in the project; the next `undo` takes the one before."
        )
    if report.backup:
        click.echo(f"Backup: {report.backup}")
