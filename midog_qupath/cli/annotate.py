"""``midog-qupath annotate``: mitotic figures into a project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midog_qupath.cli.common import (
    FiniteRange,
    StoreChoice,
    TerminalProgress,
    class_map_option,
    device_option,
    json_option,
    model_option,
    mpp_option,
    print_json,
    project_argument,
    store_option,
)
from midog_qupath.wording import counted, listed

if TYPE_CHECKING:
    from midog_qupath.inference.annotate import AnnotateReport


@click.command("annotate")
@project_argument
@model_option
@click.option(
    "--image", "images", multiple=True, metavar="PATTERN",
    help="Only images whose name fits, e.g. 'case_1*', or of an entry id, id:7. May be repeated.",
)  # fmt: skip
@click.option(
    "--regions", is_flag=False, flag_value="", metavar="[CLASS]",
    help="Only inside annotations of this class; Region* if none is named (put PROJECT before it then).",
)  # fmt: skip
@click.option(
    "--within", type=click.Path(path_type=Path), metavar="FILE",
    help="Only inside the areas of this GeoJSON file (full-resolution pixels of the image).",
)  # fmt: skip
@click.option("--sidecar-only", is_flag=True, help="Write GeoJSON files only, not into the project.")
@click.option(
    "--dry-run", is_flag=True,
    help="Search, and say what would be added, replaced and left out; write nothing at all.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the untouched detections of earlier runs.")
@click.option(
    "--threshold", type=FiniteRange(0, 1),
    help="Mitosis probability (0 to 1) from which a candidate is written; default: the model's own.",
)  # fmt: skip
@device_option
@click.option(
    "--challenge", type=click.Path(path_type=Path), metavar="PATH",
    help="Write mitotic-figures.json of the MIDOG challenge too (millimetres): a .json for one image, else a "
    "folder that gets <image>.json; with the candidates below the threshold.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True,
    help="What the network computes in; auto: bf16 where the device multiplies it fast, else fp32.",
)  # fmt: skip
@click.option(
    "--batch-size", "batch", type=click.IntRange(1, 256), metavar="N",
    help="Squares of 1024 x 1024 pixels seen at once; default: 4 to 9, for large jobs found by a trial.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(0, 64), metavar="N",
    help="Processes that read slides; default: one for two cores, at most 8.",
)  # fmt: skip
@click.option("--tta", is_flag=True, help="Average over four orientations: four times as slow.")
@click.option(
    "--compile", is_flag=True,
    help="Make machine code of the network first: up to a minute, then a fifth less time. Needs a compiler.",
)  # fmt: skip
@click.option(
    "--compiled", type=click.Path(path_type=Path), metavar="FILE",
    help="Run the network from this file of `midog-qupath compile`, by OpenVINO or ONNX Runtime.",
)  # fmt: skip
@click.option(
    "--skip-existing", is_flag=True,
    help="Leave images alone that this model has searched in an earlier run with the same threshold.",
)  # fmt: skip
@click.option(
    "--heatmap", is_flag=True,
    help="Also write the probabilities of each image as a pyramidal OME-TIFF beside its GeoJSON file.",
)  # fmt: skip
@click.option(
    "--scheduler", metavar="ADDRESS",
    help="Let a Dask cluster search whole slides, e.g. tcp://host:8786 (pip install midog-qupath[dask]).",
)  # fmt: skip
@click.option(
    "--profile", type=click.Path(path_type=Path), metavar="FILE",
    help="Write where the time went, stage by stage in seconds, as JSON.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Annotate images coarser than 0.6 µm/px too.")
@store_option
@class_map_option
@mpp_option
@json_option
def command(project: Path, model: Path | None, device: str, store: StoreChoice, **options: Any) -> int:
    """Find mitotic figures in the images of PROJECT and write them into it as detections.

    Untouched detections of earlier runs in the searched area are replaced; what a person drew, changed or
    deleted stays so. GeoJSON files are always written beside the project. Interrupted (Ctrl-C, a crash), the
    same command goes on where it was. Exit code 1 if an image could not be read or written (the others are).
    """
    if options["regions"] is not None and options["within"] is not None:
        raise click.UsageError("Give --regions or --within, not both.")
    if options["compiled"] is not None and options["compile"]:
        raise click.UsageError("Give --compile or --compiled, not both.")
    as_json, profile = options.pop("as_json"), options.pop("profile")
    progress = TerminalProgress()
    report = _run(project, model, device, store, options, progress)
    if profile is not None:
        from midog_qupath.files import write_json

        write_json(profile, dict(report.profile))
    if as_json:
        print_json(report.as_json())
    else:
        _show(report)
    for name, error in report.failed.items():
        progress.warn(f"{name}: {error}")
    return 1 if report.failed else 0


def _run(
    project: Path,
    model: Path | None,
    device: str,
    store: StoreChoice,
    options: dict[str, Any],
    progress: TerminalProgress,
) -> AnnotateReport:
    from midog_qupath.project.qpproj import open_project
    from midog_qupath.project.select import select_images

    opened = open_project(project)
    # A wrong name is said before the network's libraries are loaded, which takes seconds.
    select_images(opened, options["images"])
    _find_files(options)

    from midog_qupath.inference.annotate import annotate_project
    from midog_qupath.inference.device import choose_device
    from midog_qupath.inference.jobs import AnnotateOptions
    from midog_qupath.inference.speed import Speed
    from midog_qupath.models.bundle import load_bundle
    from midog_qupath.models.find import find_model
    from midog_qupath.project.classes import ClassMap

    kind = choose_device(device)
    found, why = find_model(opened, model)
    progress.note(f"Model: {found} ({why}), on {kind}")
    factory = store.open(opened, progress)
    class_map = ClassMap.parse(options.pop("class_map"))
    if options["regions"] == "":
        options["regions"] = class_map.region
    names = ("precision", "tta", "workers", "batch", "compiled", "compile")
    speed = Speed(*(options.pop(name) for name in names))
    chosen = AnnotateOptions(class_map=class_map, speed=speed, **options)
    bundle = load_bundle(found, kind)
    if bundle.card.licence:
        progress.note(bundle.card.licence)
    if speed.compile:
        progress.note("The network is compiled first: up to a minute, a few seconds when it was before.")
    return annotate_project(opened, factory, bundle, found, chosen, progress)


def _find_files(options: Mapping[str, Any]) -> None:
    from midog_qupath.errors import GeoJsonError, ModelError

    within, compiled = options["within"], options["compiled"]
    if within is not None and not within.is_file():
        raise GeoJsonError(f"There is no file {within}.", "Give --within a GeoJSON file with areas.")
    if compiled is not None and not compiled.is_file():
        raise ModelError(f"There is no file {compiled}.", "Make it with `midog-qupath compile`.")


def _show(report: AnnotateReport) -> None:
    data: dict[str, Any] = report.as_json()
    if not data["run"]:
        click.echo("Nothing to do: this model has searched all these images before (--skip-existing).")
        return
    what = "Dry run" if data["dry_run"] else f"Run {data['run']}"
    click.echo(f"{what}: {counted(data['images'], 'image')}, {data['mm2']:.3g} mm² searched")
    counts = listed(data["found"]) or "no mitotic figure"
    click.echo(f"Found: {counts}")
    limits = [f"mitosis from a probability of {data['threshold']:.3g} on"]
    if data["atypical_threshold"] is not None:
        limits.append(f"atypical from {data['atypical_threshold']:.3g} on")
    click.echo(f"Thresholds: {', '.join(limits)}")
    if data["dry_run"]:
        click.echo(
            f"Would be written by {data['store']}: {data['added']} added, {data['removed']} of earlier runs "
            f"replaced, {data['left_out']} left out beside what a person kept or deleted."
        )
        click.echo("Nothing was written.")
        return
    if data["sidecar_only"]:
        click.echo("The project itself was not changed.")
    else:
        click.echo(
            f"Written by {data['store']}: {data['added']} added, {data['removed']} of earlier runs replaced, "
            f"{data['left_out']} left out beside what a person kept or deleted"
        )
    click.echo(f"GeoJSON: {data['sidecars']}")
    if data["backup"]:
        click.echo(f"Backup: {data['backup']}")
