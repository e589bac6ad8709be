"""``midog-qupath evaluate``: a model or a run against the ground truth in a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midog_qupath.cli.common import (
    FiniteRange,
    TerminalProgress,
    class_map_option,
    device_option,
    ground_truth_option,
    images_option,
    json_option,
    model_option,
    mpp_option,
    print_json,
    project_argument,
    store_option,
)

if TYPE_CHECKING:
    from midog_qupath.evaluation.result import Comparison, EvaluationResult


@click.command("evaluate")
@project_argument
@model_option
@click.option(
    "--detections", metavar="RUN",
    help="Measure what an annotate run wrote (its id), a folder of GeoJSON files, or files of the MIDOG "
    "challenge (one .json, or a folder with one an image) instead of a model.",
)  # fmt: skip
@click.option(
    "--against", metavar="RUN",
    help="Compare --detections with this run (or such files) on the same images: differences with intervals.",
)  # fmt: skip
@click.option(
    "--all", "all_cases", is_flag=True,
    help="Include cases that the model was trained or tuned on: every number is then in-sample.",
)  # fmt: skip
@images_option
@click.option(
    "--threshold", type=FiniteRange(0, 1),
    help="Mitosis probability (0 to 1) from which a candidate counts; default: the model's or run's own.",
)  # fmt: skip
@device_option
@store_option
@ground_truth_option
@class_map_option
@mpp_option
@json_option
def command(
    project: Path, model: Path | None, detections: str | None, against: str | None, **options: Any
) -> int:
    """Measure mitosis detection (within 7.5 µm) and normal against atypical in PROJECT.

    Precision, recall and F1 are counted inside exhaustively labelled ground and pooled; balanced accuracy
    over all figures of known type; average precision and FROC-AUC (a model's, or of the challenge's files,
    not a run's) as the MIDOG challenge defines them: all of them also by image metadata `domain` and
    `region_type` (hotspot, random, challenging). Intervals are 95 %, by bootstrap over cases. Cases the model
    has seen are left out. Exit code 1 if an image could not be read (the others are measured).

    PROJECT can also be a ground truth of the MIDOG challenge (.json), for --detections in its formats.
    """
    if model is not None and detections is not None:
        raise click.UsageError("Give --model or --detections, not both.")
    if against is not None and detections is None:
        raise click.UsageError("Give --detections with --against.")
    as_json = options.pop("as_json")
    progress = TerminalProgress()
    if project.suffix.lower() == ".json":
        results, compared = [_challenge(project, model, detections, against, progress)], None
    else:
        results, compared = _run(project, model, detections, against, options, progress)
    if as_json:
        print_json(_as_json(results, compared))
    else:
        _show(results, compared)
    for name, error in results[0].skipped.items():
        progress.warn(f"{name} was left out: {error}")
    return 1 if results[0].skipped else 0


def _challenge(
    truth: Path, model: Path | None, detections: str | None, against: str | None, progress: TerminalProgress
) -> EvaluationResult:
    from midog_qupath.evaluation.challenge import evaluate_challenge

    if detections is None or model is not None or against is not None:
        raise click.UsageError("A ground truth of the challenge takes --detections, and nothing to compare.")
    return evaluate_challenge(truth, Path(detections), progress)


def _run(
    project: Path,
    model: Path | None,
    detections: str | None,
    against: str | None,
    options: dict[str, Any],
    progress: TerminalProgress,
) -> tuple[list[EvaluationResult], Comparison | None]:
    from midog_qupath.errors import StoreError
    from midog_qupath.evaluation.project import EvaluateOptions, compare_runs, evaluate_model, evaluate_run
    from midog_qupath.inference.device import choose_device
    from midog_qupath.models.find import find_model
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.qpproj import open_project

    opened = open_project(project)
    store, device = options.pop("store"), options.pop("device")
    chosen = EvaluateOptions(class_map=ClassMap.parse(options.pop("class_map")), **options)
    if chosen.ground_truth is not None and not chosen.ground_truth.is_dir():
        raise StoreError(
            f"There is no folder {chosen.ground_truth}.", "Give the folder that holds <image>.geojson files."
        )
    factory = store.open(opened, progress)
    with factory() as objects:
        if detections is not None and against is not None:
            new, old, compared = compare_runs(opened, objects, detections, against, chosen, progress)
            return [new, old], compared
        if detections is not None:
            return [evaluate_run(opened, objects, detections, chosen, progress)], None
        kind = choose_device(device)
        found, why = find_model(opened, model)
        progress.note(f"Model: {found} ({why}), on {kind}")
        return [evaluate_model(opened, objects, found, kind, chosen, progress)], None


def _as_json(results: list[EvaluationResult], compared: Comparison | None) -> dict[str, Any]:
    from midog_qupath.evaluation.result import comparison_json

    if compared is None:
        return results[0].as_json()
    return comparison_json(results[0], results[1], compared)


def _show(results: list[EvaluationResult], compared: Comparison | None) -> None:
    from midog_qupath.cli.figures_text import difference_lines, result_lines

    for result in results:
        if compared is not None:
            click.echo(result.source)
        for line in result_lines(result.as_json()):
            click.echo(line)
    if compared is not None:
        for line in difference_lines(_as_json(results, compared)["difference"]):
            click.echo(line)
