"""``midog-qupath table``: the detections of a run as CSV and Parquet."""

from __future__ import annotations

from pathlib import Path

import click

from midog_qupath.cli.common import StoreChoice, TerminalProgress, project_argument, store_option


@click.command("table")
@project_argument
@click.argument("run")
@store_option
def command(project: Path, run: str, store: StoreChoice) -> int:
    """Write detections.csv and detections.parquet of RUN (its id) in PROJECT anew, as they are now.

    `annotate` writes both; this brings what people did since into the columns class_now, reviewed and
    state. Positions are in pixels (x_px, y_px) and microns (x_um, y_um). Prints the folder of the files.
    """
    from midog_qupath.project.qpproj import open_project
    from midog_qupath.project.table import write_run_table

    progress = TerminalProgress()
    opened = open_project(project)
    with store.open(opened, progress)() as objects:
        click.echo(write_run_table(opened, run, objects, progress))
    return 0
