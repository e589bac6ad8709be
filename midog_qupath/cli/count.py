"""``midog-qupath count``: the mitotic count in the hotspot of each image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midog_qupath.cli.common import (
    FiniteRange,
    StoreChoice,
    TerminalProgress,
    class_map_option,
    images_option,
    json_option,
    mpp_option,
    print_json,
    project_argument,
    store_option,
)
from midog_qupath.wording import counted

if TYPE_CHECKING:
    from midog_qupath.counting.result import ImageCount, ProjectCount


@click.command("count")
@project_argument
@images_option
@click.option(
    "--area", type=FiniteRange(0.001, 100), default=2.0, show_default=True, metavar="MM2",
    help="Area in mm² in which is counted; 2.37 is 10 fields of 0.237 mm².",
)  # fmt: skip
@click.option(
    "--shape", type=click.Choice(["circle", "rect"]), default="circle", show_default=True,
    help="Its shape; rect is 4 wide and 3 high.",
)  # fmt: skip
@click.option(
    "--field-diameter", type=FiniteRange(0.1, 2), default=0.55, show_default=True, metavar="MM",
    help="Diameter in mm of the microscope's high-power field, for the count per 10 fields and the score.",
)  # fmt: skip
@click.option(
    "--regions", is_flag=False, flag_value="", metavar="[CLASS]",
    help="Only inside annotations of this class; Region* if none is named (put PROJECT before it then).",
)  # fmt: skip
@click.option(
    "--threshold", type=FiniteRange(0, 1),
    help="Mitosis probability (0 to 1) from which an unreviewed detection counts; default: all there are.",
)  # fmt: skip
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE", help="Write a table too.")
@click.option(
    "--write", is_flag=True,
    help="Put each hotspot into the project, an annotation of class Hotspot with the count as measurements.",
)  # fmt: skip
@store_option
@class_map_option
@mpp_option
@json_option
def command(
    project: Path, csv_file: Path | None, write: bool, store: StoreChoice, as_json: bool, **options: Any
) -> int:
    """Count mitoses in the richest place of each image of PROJECT.

    The place is the exact best: a circle (or rectangle) anywhere, at least 90 % of it tissue inside the image
    or the annotations named. Counted are people's Mitosis* annotations, reviewed detections and unreviewed
    ones; not what people made something else; a detection within 7.5 µm of a person's figure is that figure.
    In an image too small for the area everything in it is counted, without a score.

    For research. Not a medical device: a count of unreviewed detections is no diagnosis.

    Results are kept in midog-qupath/counts. Exit code 1 if an image could not be read or written.
    """
    if write and store.name == "sidecar":
        raise click.UsageError(
            "--store sidecar leaves the project as it is: leave out --write, and run the script "
            "mitotic_count inside QuPath, or take in the GeoJSON files of midog-qupath/counts."
        )
    progress = TerminalProgress()
    counted, kept, errors = _run(project, store, write, csv_file, options, progress)
    if as_json:
        print_json({**counted.as_json(), **kept})
    else:
        _show(counted, kept["folder"])
    for name, error in errors.items():
        progress.warn(f"{name}: {error}")
    return 1 if errors else 0


def _run(
    project: Path,
    store: StoreChoice,
    write: bool,
    csv_file: Path | None,
    options: dict[str, Any],
    progress: TerminalProgress,
) -> tuple[ProjectCount, dict[str, Any], dict[str, str]]:
    from midog_qupath import files
    from midog_qupath.counting.count import count_project
    from midog_qupath.counting.write import write_into_project
    from midog_qupath.project.disk import writing
    from midog_qupath.project.qpproj import open_project

    opened = open_project(project)
    chosen = _options(options)
    factory = store.open(opened, progress)
    with factory() as objects:
        counted = count_project(opened, objects, chosen, progress)
    errors = {name: str(error) for name, error in counted.skipped.items()}
    kept = _keep(opened, counted, progress)
    if csv_file is not None:
        with writing(csv_file):
            files.write_bytes(csv_file, counted.as_csv().encode("utf-8"))
    if write:
        report = write_into_project(opened, factory, counted, progress)
        progress.note(
            f"Into the project: {report.written} hotspots, {report.replaced} of earlier counts replaced. "
            f"Backup: {report.backup}"
        )
        names = {entry.entry_id: entry.name for entry in opened.images}
        errors |= {names[identity]: str(error) for identity, error in report.errors.items()}
    return counted, kept, errors


def _options(options: dict[str, Any]) -> Any:
    from midog_qupath.counting.count import CountOptions
    from midog_qupath.counting.result import Settings
    from midog_qupath.project.classes import ClassMap

    class_map = ClassMap.parse(options.pop("class_map"))
    settings = Settings(options.pop("area"), options.pop("shape"), options.pop("field_diameter"))
    if options["regions"] == "":
        options["regions"] = class_map.region
    return CountOptions(settings=settings, class_map=class_map, **options)


def _keep(project: Any, counted: ProjectCount, progress: TerminalProgress) -> dict[str, Any]:
    """Where the count is kept: its folder, and each image's GeoJSON file by entry id."""
    from midog_qupath.counting.write import hotspot_files, write_count
    from midog_qupath.errors import SafetyError

    try:
        folder = write_count(project, counted)
    except SafetyError as error:
        progress.warn(f"The count was not kept: {error}")
        return {"folder": None, "files": {}}
    return {"folder": str(folder), "files": hotspot_files(project, counted)}


def _show(counted: ProjectCount, folder: str | None) -> None:
    from midog_qupath.counting.nottingham import SOURCE, field_area_mm2
    from midog_qupath.counting.result import INTERVAL_NOTE

    settings = counted.settings
    field = f"{settings.field_diameter_mm:g} mm ({field_area_mm2(settings.field_diameter_mm):.3f} mm²)"
    click.echo(f"Hotspots: {settings.shape} of {settings.area_mm2:g} mm²; high-power field {field}")
    for image in counted.images:
        for line in _lines(image):
            click.echo(line)
    if any(image.score is not None for image in counted.images):
        click.echo(f"Score: {SOURCE}.")
    if any(image.interval is not None and image.by("unreviewed") for image in counted.images):
        click.echo(f"Interval: {INTERVAL_NOTE}.")
    click.echo("For research, not for diagnosis.")
    if folder is not None:
        click.echo(f"Kept in: {folder}")


def _lines(image: ImageCount) -> list[str]:
    place = f"centre ({image.spot.x:.0f}, {image.spot.y:.0f}) px" if image.spot else "too small: all of it"
    words = (
        f"{image.by('person')} drawn, {image.by('reviewed')} reviewed, {image.by('unreviewed')} unreviewed"
    )
    mitoses = counted(image.total, "mitosis", "mitoses")
    lines = [f"{image.entry.name}: {mitoses} ({words}) in {image.area_mm2:.3g} mm², {place}"]
    figures = []
    if image.per_mm2 is not None and image.per_10_hpf is not None:
        figures += [f"{image.per_mm2:.2f} per mm²", f"{image.per_10_hpf:.1f} per 10 HPF"]
    if image.score is not None:
        figures.append(f"Nottingham mitotic score {image.score}")
    if image.atypical_share is not None:
        typed = image.atypical + image.normal
        figures.append(f"atypical {image.atypical} of {typed} ({image.atypical_share:.0%})")
    if image.by("unreviewed"):
        interval = image.interval
        said = f"{interval.low} to {interval.high}" if interval else f"none, {image.uncalibrated}"
        figures.append(f"interval {said}")
    return [*lines, "  " + "; ".join(figures)] if figures else lines
