"""``midog-qupath scripts``: the scripts for QuPath into a project."""

from __future__ import annotations

from pathlib import Path

import click

from midog_qupath.cli.common import TerminalProgress, json_option, print_json, project_argument


@click.command("scripts")
@project_argument
@json_option
def command(project: Path, as_json: bool) -> None:
    """Copy the scripts that run inside QuPath into the folder scripts/ of PROJECT.

    QuPath lists them under Automate > Project scripts. A script that somebody changed there is left as it is.
    """
    from midog_qupath.project.qpproj import open_project
    from midog_qupath.project.scripts import copy_scripts
    from midog_qupath.resources import shipped

    copied = copy_scripts(open_project(project), shipped("groovy"))
    if as_json:
        print_json([{"script": str(script.path), "state": script.state} for script in copied])
    else:
        for script in copied:
            click.echo(f"{script.state:8} {script.path}")
    kept = [script.path.name for script in copied if script.state == "kept"]
    if kept:
        TerminalProgress().warn(
            f"Left as they are, because somebody changed them: {', '.join(kept)}. "
            "Rename or delete them to get the newest."
        )
