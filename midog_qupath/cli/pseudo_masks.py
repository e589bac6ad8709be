"""``midog-qupath pseudo-masks``: the pixel masks that training learns from, to look at and for QuPath."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midog_qupath.cli.common import TerminalProgress, json_option, print_json
from midog_qupath.cli.learning import Duration, dataset_folder

if TYPE_CHECKING:
    from midog_qupath.learning.mask_report import MaskCounts


@click.command("pseudo-masks")
@click.argument("source", type=click.Path(path_type=Path), metavar="PROJECT|DATASET")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Folder for overlays and objects; default: <project>/midog-qupath/pseudo-masks/<time>, "
    "or pseudo-masks/<time> beside the dataset.",
)  # fmt: skip
@click.option("--recipe", default="standard", show_default=True, help="Shipped recipe, or a TOML file.")
@click.option("--time-limit", type=Duration(), help="Longest training of the teacher; default: by recipe.")
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="MODEL",
    help="Take this trained model (file or folder) for the teacher instead of training one.",
)  # fmt: skip
@click.option("--objects", is_flag=True, help="Also the masks as QuPath detections, a GeoJSON an image.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show the first N labelled areas only; the teacher learns from all.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@json_option
def command(
    source: Path,
    output: Path | None,
    recipe: str,
    time_limit: float | None,
    model: Path | None,
    objects: bool,
    limit: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Write the pixel masks that training would learn from, as overlays to look at.

    PROJECT is a project.qpproj or its folder, DATASET a folder that export wrote. Contours: mitosis red,
    look-alike amber, normal nucleus green, the label itself white; what no loss looks at is shaded.

    The files of --objects are for a copy of the project: drag them onto the open image in QuPath.
    """
    from midog_qupath.dataset.store import Dataset
    from midog_qupath.inference.device import choose_device
    from midog_qupath.learning.recipe import load_recipe
    from midog_qupath.mask_files import MaskOptions, write_masks

    progress = TerminalProgress()
    chosen, kind = load_recipe(recipe), choose_device(device)
    folder = dataset_folder(source, progress)
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    out = output or folder.absolute().parent / "pseudo-masks" / time
    options = MaskOptions(out, chosen, time_limit, model, objects, limit, kind)
    total = write_masks(Dataset.open(folder), options, progress)
    if as_json:
        shares = {"share_whole": total.share_whole, "share_ignored": total.share_ignored}
        print_json({"folder": str(out), **asdict(total), **shares})
    else:
        _show(total, out)


def _show(total: MaskCounts, out: Path) -> None:
    click.echo(f"Labelled objects          {total.objects}")
    click.echo(f"  one mask in the label   {total.whole} ({100 * total.share_whole:.1f} %)")
    click.echo(f"Normal nuclei             {total.nuclei}")
    click.echo(f"Labelled ground ignored   {100 * total.share_ignored:.1f} %")
    click.echo(f"Folder                    {out}")
