"""``midog-qupath evaluate``: a model or a run against the ground truth in a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midog_qupath.cli.common import (
    StoreChoice,
    TerminalProgress,
    class_map_option,
    ground_truth_option,
    json_option,
    mpp_option,
    print_json,
    project_argument,
    store_option,
)

if TYPE_CHECKING:
    from midog_qupath.evaluation.result import EvaluationResult

_CURVES = (("average_precision", "average precision"), ("froc_auc", "FROC-AUC (0 to 8)"))


@click.command("evaluate")
@project_argument
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="MODEL",
    help="Model file or the folder of a training; default: the project's newest, else the released one.",
)  # fmt: skip
@click.option(
    "--detections", metavar="RUN",
    help="Measure what an annotate run wrote (its id, or a folder of GeoJSON files) instead of a model.",
)  # fmt: skip
@click.option(
    "--all", "all_cases", is_flag=True,
    help="Include cases that the model was trained or tuned on: every number is then in-sample.",
)  # fmt: skip
@click.option(
    "--image", "images", multiple=True, metavar="PATTERN",
    help="Only images whose name fits, e.g. 'case_1*'. May be repeated.",
)  # fmt: skip
@click.option(
    "--threshold", type=click.FloatRange(0, 1),
    help="Mitosis probability (0 to 1) from which a candidate counts; default: the model's or run's own.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    help="Where the model runs.",
)  # fmt: skip
@store_option
@ground_truth_option
@class_map_option
@mpp_option
@json_option
def command(
    project: Path, model: Path | None, detections: str | None, device: str, store: StoreChoice, **options: Any
) -> int:
    """Measure mitosis detection (within 7.5 µm) and normal against atypical in PROJECT.

    Precision, recall and F1 are counted inside exhaustively labelled ground and pooled; balanced accuracy
    over all figures of known type; average precision and FROC-AUC (a model's, not a run's) as the MIDOG
    challenge defines them. Cases the model has seen are left out. Exit code 1 if an image could
    not be read (the others are measured).
    """
    if model is not None and detections is not None:
        raise click.UsageError("Give --model or --detections, not both.")
    as_json = options.pop("as_json")
    progress = TerminalProgress()
    result = _run(project, store, model, detections, device, options, progress)
    if as_json:
        print_json(result.as_json())
    else:
        _show(result)
    for name, error in result.skipped.items():
        progress.warn(f"{name} was left out: {error}")
    return 1 if result.skipped else 0


def _run(
    project: Path,
    store: StoreChoice,
    model: Path | None,
    detections: str | None,
    device: str,
    options: dict[str, Any],
    progress: TerminalProgress,
) -> EvaluationResult:
    from midog_qupath.errors import StoreError
    from midog_qupath.evaluation.project import EvaluateOptions, evaluate_model, evaluate_run
    from midog_qupath.inference.device import choose_device
    from midog_qupath.models.find import find_model
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.qpproj import open_project

    opened = open_project(project)
    chosen = EvaluateOptions(class_map=ClassMap.parse(options.pop("class_map")), **options)
    if chosen.ground_truth is not None and not chosen.ground_truth.is_dir():
        raise StoreError(
            f"There is no folder {chosen.ground_truth}.", "Give the folder that holds <image>.geojson files."
        )
    factory = store.open(opened, progress)
    with factory() as objects:
        if detections is not None:
            return evaluate_run(opened, objects, detections, chosen, progress)
        kind = choose_device(device)
        found, why = find_model(opened, model)
        progress.note(f"Model: {found} ({why}), on {kind}")
        return evaluate_model(opened, objects, found, kind, chosen, progress)


def _show(result: EvaluationResult) -> None:
    if result.in_sample:
        click.echo("IN-SAMPLE: cases the model was trained or tuned on are included.")
    mark = " (in-sample)" if result.in_sample else ""
    data = result.as_json()
    detection, types = data["detection"], data["atypical"]
    if detection is not None:
        at = f", threshold {detection['threshold']:.3f}" if detection["threshold"] is not None else ""
        click.echo(f"Detection{mark}: {detection['images']} images, {detection['mm2']:.3g} mm²{at}")
        click.echo(f"  {'':24}{'TP':>7}{'FP':>7}{'FN':>7}{'precision':>10}{'recall':>10}{'F1':>10}")
        for name, row in [("pooled", detection["pooled"]), *detection["per_domain"].items()]:
            click.echo(_line(name, row))
        for name, label in _CURVES if data["curves"] else ():
            click.echo(f"  {label:24} {_figure(data['curves'][name])}")
    if types is not None:
        click.echo(
            f"Normal against atypical{mark}: {types['n_normal']} normal, {types['n_atypical']} atypical"
        )
        for name in ("balanced_accuracy", "sensitivity", "specificity"):
            click.echo(f"  {name.replace('_', ' '):24} {_figure(types[name])}")
        if data["curves"]:
            click.echo(f"  {'ROC AUC':24} {_figure(data['curves']['atypical_roc_auc'])}")
        if types["undetected"]:
            click.echo(f"  {types['undetected']} figures of known type had no typed prediction near")
    if result.left_out_cases:
        click.echo(f"Left out: {len(result.left_out_cases)} cases that the model has seen")


def _line(name: str, row: dict[str, Any]) -> str:
    counts = "".join(f"{row[key]:>7}" for key in ("tp", "fp", "fn"))
    figures = "".join(f"{_figure(row[key]):>10}" for key in ("precision", "recall", "f1"))
    return f"  {name:24}{counts}{figures}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
