"""``midog-qupath demo``: the main job on a generated project."""

from __future__ import annotations

import time
from pathlib import Path

import click

from midog_qupath.cli.common import TerminalProgress
from midog_qupath.errors import ProjectError


@click.command("demo")
@click.argument("folder", default="demo-project", type=click.Path(path_type=Path), metavar="[DIR]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Other images.")
@click.option("--recipe", default="demo", show_default=True, help="Training recipe.")
@click.pass_context
def command(ctx: click.Context, folder: Path, seed: int, recipe: str) -> None:
    """Generate an H&E-like project in DIR, then run info, export, train, annotate and evaluate on it.

    DIR must not exist yet (default: demo-project). Takes minutes on a CPU; open DIR/project.qpproj in
    QuPath to see the detections.
    """
    from midog_qupath.demo.project import generate_project

    if folder.exists():
        raise ProjectError(f"{folder} already exists.", "Give another folder: midog-qupath demo DIR.")
    progress = TerminalProgress()
    began = time.monotonic()
    progress.note(f"Generating an H&E-like project in {folder}")
    project = str(generate_project(folder, seed, progress=progress))
    for arguments in (
        ["info", project],
        ["export", project],
        ["train", project, "--recipe", recipe, "--time-limit", "5m"],
        ["annotate", project],
        ["evaluate", project],
    ):
        progress.note(f"\n$ midog-qupath {' '.join(arguments)}")
        status = _run(ctx, arguments)
        if status:
            ctx.exit(status)
    progress.note(
        f"\nDone in {time.monotonic() - began:.0f} s. Open {project} in QuPath to see the detections."
    )


def _run(ctx: click.Context, arguments: list[str]) -> int:
    """Run one command in this process, as if it had been typed; its exit code."""
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    name, rest = arguments[0], arguments[1:]
    sub = group.get_command(root, name)
    assert sub is not None
    with sub.make_context(name, rest, parent=root) as child:
        return int(sub.invoke(child) or 0)
