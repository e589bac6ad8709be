"""``midog-qupath classify``: normal or atypical, for bare crops of mitotic figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midog_qupath.cli.common import (
    FiniteRange,
    TerminalProgress,
    device_option,
    json_option,
    print_json,
)
from midog_qupath.units import COARSE_MPP, REFUSED_MPP, WORKING_MPP, MicronsPerPixel
from midog_qupath.wording import counted, first_of

if TYPE_CHECKING:
    from midog_qupath.inference.crops import CropReport


@click.command("classify")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER|FILES...")
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="MODEL",
    help="Model file or the folder of a training; default: the released one.",
)  # fmt: skip
@click.option(
    "--mpp", type=FiniteRange(0.05, REFUSED_MPP), default=WORKING_MPP, show_default=True,
    help="Microns per pixel of the crops.",
)  # fmt: skip
@device_option
@click.option(
    "--challenge", type=click.Path(path_type=Path), metavar="PATH",
    help="Write multiple-mitotic-figure-classification.json of the MIDOG challenge too: a .json with all "
    "crops in order, else a folder that gets one file for each input file.",
)  # fmt: skip
@json_option
def command(
    paths: tuple[Path, ...],
    model: Path | None,
    mpp: float,
    device: str,
    challenge: Path | None,
    as_json: bool,
) -> int:
    """Tell normal from atypical mitotic figures in crops, each centred on one figure.

    PNG, JPEG, BMP and TIFF, of a FOLDER all that lie in it by name; every page of a TIFF is a crop of its
    own (name.tiff#0). 64 to 128 px at 0.25 µm/px are usual, other sizes are mirrored at their border or cut
    around the centre. Exit code 1 if a crop could not be read (the others are classified).
    """
    progress = TerminalProgress()
    if mpp > COARSE_MPP:
        progress.warn(f"{mpp:g} µm/px is coarse: chromosomes can hardly be told apart.")
    report = _run(paths, model, MicronsPerPixel(mpp), device, progress)
    if as_json:
        print_json([verdict.as_json() for verdict in report.verdicts])
    else:
        _show(report)
    for name, error in report.failed.items():
        progress.warn(f"{name}: {error}")
    _warn_of("show nothing", report.blank, progress)
    _warn_of("have no colour, the model knows H&E only", report.colourless, progress)
    if challenge is not None:
        _write(challenge, report, progress)
    return 1 if report.failed else 0


def _warn_of(what: str, names: Sequence[str], progress: TerminalProgress) -> None:
    if names:
        progress.warn(f"These crops {what}; their type means nothing: {first_of(names, 5)}.")


def _write(path: Path, report: CropReport, progress: TerminalProgress) -> None:
    from midog_qupath.inference.challenge_files import write_verdicts

    for written in write_verdicts(path, report):
        progress.note(f"Written: {written}")


def _run(
    paths: tuple[Path, ...],
    model: Path | None,
    mpp: MicronsPerPixel,
    device: str,
    progress: TerminalProgress,
) -> CropReport:
    from midog_qupath.inference.crop_files import list_files
    from midog_qupath.inference.crops import classify_files
    from midog_qupath.inference.device import choose_device
    from midog_qupath.models.bundle import load_bundle
    from midog_qupath.models.find import bare_model

    files = list_files(paths)
    kind = choose_device(device)
    found, why = bare_model(model)
    bundle = load_bundle(found, kind)
    progress.note(f"Model: {found} ({why}), on {kind}")
    if bundle.card.licence:
        progress.note(bundle.card.licence)
    report = classify_files(bundle, files, mpp, progress)
    progress.note(f"Threshold: atypical from a probability of {report.threshold:.3g} on (the model's own)")
    return report


def _show(report: CropReport) -> None:
    width = max((len(verdict.file) for verdict in report.verdicts), default=0)
    for verdict in report.verdicts:
        kind = "atypical" if verdict.atypical else "normal"
        click.echo(f"{verdict.file:{width}}  {kind:8}  {verdict.atypical_probability:.3f}")
    atypical = sum(verdict.atypical for verdict in report.verdicts)
    count = len(report.verdicts)
    click.echo(
        f"{counted(count, 'crop')}: {count - atypical} normal, {atypical} atypical (last column: P(atypical))"
    )
