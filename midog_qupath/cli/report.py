"""``midog-qupath report``: one HTML page about a run or a model."""

from __future__ import annotations

from dataclasses import asdict
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
    store_option,
)

if TYPE_CHECKING:
    from midog_qupath.report.make import ReportResult


@click.command("report")
@click.argument("target", type=click.Path(path_type=Path), metavar="RUN|MODEL_DIR|PROJECT")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
    help="The HTML file; default: report.html in the folder of the run or the model.",
)  # fmt: skip
@click.option(
    "--project", type=click.Path(path_type=Path), metavar="PROJECT",
    help="Measure a model on this project; default: the one it lies in.",
)  # fmt: skip
@click.option(
    "--crops", type=click.IntRange(min=0), default=240, show_default=True, metavar="N",
    help="Most pictures a gallery (about 4 kB each), spread evenly over the probabilities.",
)  # fmt: skip
@click.option(
    "--all", "all_cases", is_flag=True,
    help="Measure on cases that the model was trained or tuned on too: every number is then in-sample.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    help="Where a model runs when it is measured.",
)  # fmt: skip
@store_option
@ground_truth_option
@class_map_option
@mpp_option
@json_option
def command(target: Path, as_json: bool, **asked: Any) -> None:
    """Write one HTML page, which needs no network, about a run or a model.

    RUN is a folder of midog-qupath/detections, MODEL_DIR the folder of a training, PROJECT stands for its
    newest run (its newest model where it has no run). Where mitoses are labelled, the run is measured and
    its errors are shown; a model is run on the labelled ground for that.
    """
    progress = TerminalProgress()
    result = _run(target, asked, progress)
    if as_json:
        print_json({**asdict(result), "path": str(result.path)})
        return
    for note in result.notes:
        progress.note(note)
    click.echo(f"Report: {result.path} ({result.size_bytes / 1e6:.1f} MB, {result.pictures} pictures)")


def _run(target: Path, asked: dict[str, Any], progress: TerminalProgress) -> ReportResult:
    from midog_qupath.inference.device import choose_device
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.report.gather import ReportOptions
    from midog_qupath.report.make import default_path, make_report
    from midog_qupath.report.subject import find_subject

    subject = find_subject(target, asked.pop("project"))
    out, store = asked.pop("output") or default_path(subject), asked.pop("store")
    options = ReportOptions(
        class_map=ClassMap.parse(asked.pop("class_map")),
        device=choose_device(asked.pop("device")),
        **asked,
    )
    progress.note(f"Reporting {subject.name}")
    if subject.project is None:
        return make_report(subject, None, out, options, progress)
    with store.open(subject.project, progress)() as objects:
        return make_report(subject, objects, out, options, progress)
