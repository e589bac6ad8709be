"""``midog-qupath backups``: the states of a project that were kept before it was changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from midog_qupath.cli.common import json_option, print_json, project_argument
from midog_qupath.wording import counted

if TYPE_CHECKING:
    from midog_qupath.project.backup import Backup


@click.command("backups")
@project_argument
@json_option
def command(project: Path, as_json: bool) -> int:
    """List the backups of PROJECT, oldest first.

    The time (year, month, day - hour, minute, second) is what `restore` takes. Each holds the images, project
    file and classes as they were before a run, an undo or a restore. Old ones may be deleted.
    """
    from midog_qupath.project.backup import all_backups
    from midog_qupath.project.qpproj import open_project

    found = all_backups(open_project(project))
    if as_json:
        print_json([_row(backup) for backup in found])
        return 0
    for backup in found:
        record = backup.record
        told = f"{counted(len(record.images), 'image'):>12}  {record.why}" if record else "damaged"
        click.echo(f"{backup.time:20}{backup.size / 1e6:>10.1f} MB{told}")
    if not found:
        click.echo("No backups: nothing has been written into this project.")
    return 0


def _row(backup: Backup) -> dict[str, object]:
    return {
        "time": backup.time,
        "why": backup.record.why if backup.record else None,
        "images": len(backup.record.images) if backup.record else 0,
        "bytes": backup.size,
        "whole": backup.record is not None,
        "folder": str(backup.folder),
    }
