"""``midog-qupath restore``: images put back as they were in a backup."""

from __future__ import annotations

from pathlib import Path

import click

from midog_qupath.cli.common import (
    TerminalProgress,
    images_option,
    json_option,
    print_json,
    project_argument,
)
from midog_qupath.wording import counted


@click.command("restore")
@project_argument
@click.argument("time")
@images_option
@json_option
def command(project: Path, time: str, images: tuple[str, ...], as_json: bool) -> int:
    """Put the objects of images of PROJECT back as they were at TIME (`backups` lists them).

    All objects of these images: what was drawn since is no longer in the project then, but in a new backup,
    which is made first, and from which it comes back in the same way. Close the project in QuPath before.
    """
    from midog_qupath.project.qpproj import open_project
    from midog_qupath.project.restore import restore

    report = restore(open_project(project), time, images, TerminalProgress())
    if as_json:
        print_json(
            {
                "source": str(report.source),
                "restored": list(report.restored),
                "same": list(report.same),
                "backup": str(report.backup) if report.backup else None,
            }
        )
        return 0
    click.echo(
        f"{counted(len(report.restored), 'image')} restored, {len(report.same)} were as in the backup already"
    )
    if report.backup:
        click.echo(f"What was there before: restore {project} {report.backup.name}")
    return 0
