"""``midog-qupath doctor``: whether this computer can do the work."""

from __future__ import annotations

from pathlib import Path

import click

from midog_qupath.cli.common import json_option, print_json

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "red")}


@click.command("doctor")
@click.argument("project", required=False, type=click.Path(path_type=Path))
@json_option
def command(project: Path | None, as_json: bool) -> int:
    """Check Python, libraries, GPU, QuPath, memory, disk and write access.

    With PROJECT (a project.qpproj or its folder) also whether that can be opened and written to. Every
    finding that is not ok says what to do. Nothing is changed. Exit code 1 if a problem keeps work from being
    done; notes (no GPU, no QuPath, little memory) do not change it.
    """
    from midog_qupath.doctor import Check, examine, healthy
    from midog_qupath.doctor import as_json as to_json

    checks: list[Check] = []
    for check in examine(project):
        checks.append(check)
        if not as_json:
            _show(check.name, check.state, check.found, check.remedy)
    if as_json:
        print_json(to_json(checks))
    return 0 if healthy(checks) else 1


def _show(name: str, state: str, found: str, remedy: str | None) -> None:
    word, color = _MARKS[state]
    click.echo(f"{click.style(f'{word:8}', fg=color)}{name}: {found}")
    if remedy is not None:
        click.echo(f"{'':8}{remedy}")
