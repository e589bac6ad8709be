"""What the commands that learn share: how long, and from which dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from midog_qupath.errors import DatasetError
from midog_qupath.progress import Progress


class Duration(click.ParamType[float]):
    """A time like ``90s``, ``30m``, ``2h`` or ``1h30m``, in seconds."""

    name = "duration"
    _SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}  # noqa: RUF012

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of a duration; a bare number is refused because its unit would be a guess."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
        if not parts or "".join(n + u for n, u in parts) != text:
            self.fail(f"{value!r} is no duration: write 45s, 30m, 2h or 1h30m.", param, ctx)
        seconds = sum(float(number) * self._SECONDS[unit] for number, unit in parts)
        if seconds <= 0:
            self.fail("must be longer than nothing", param, ctx)
        return seconds


def dataset_folder(source: Path, progress: Progress) -> Path:
    """The dataset of a source: the folder itself, or the project's, exported first where there is none.

    Raises
    ------
    DatasetError
        If the source is neither.
    MidogError
        If the project cannot be exported.
    """
    if (source / "dataset.json").is_file():
        return source
    if source.suffix != ".qpproj" and not (source / "project.qpproj").exists():
        raise DatasetError(
            f"{source} is neither a project nor a dataset.",
            "Give a project.qpproj, its folder, or a folder that `midog-qupath export` wrote.",
        )
    from midog_qupath.cli.export import export_with_defaults
    from midog_qupath.project.qpproj import open_project

    project = open_project(source)
    folder = project.ours / "dataset"
    if (folder / "dataset.json").is_file():
        progress.note(f"Using the dataset exported before, {folder}; run export again after new annotations.")
        return folder
    progress.note("Exporting first, as `midog-qupath export` without its options (--mpp and others) does.")
    return export_with_defaults(source, progress)
