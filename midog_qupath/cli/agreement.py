"""``midog-qupath agreement``: two annotators, or a model and a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from midog_qupath.cli.common import (
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

_KAPPAS = (("kappa_mitosis", "kappa, mitosis or not"), ("kappa_type", "kappa, normal or atypical"))


@click.command("agreement")
@project_argument
@click.option("--a", "first", required=True, metavar="WHO", help="The annotator who is measured against.")
@click.option("--b", "second", required=True, metavar="WHO", help="The annotator who is measured.")
@images_option
@store_option
@class_map_option
@mpp_option
@json_option
def command(project: Path, first: str, second: str, store: StoreChoice, as_json: bool, **options: Any) -> int:
    """Compare two annotators of PROJECT: F1 of one against the other, and Cohen's kappa.

    WHO is a folder of GeoJSON files (<image>.geojson), the id of an annotate run (so that a model can stand
    beside people), or what classes begin with: Anna for 'Anna: Mitosis' and 'Anna: Mitosis: Normal'.

    Compared are images that both labelled, inside exhaustively labelled ground where there is some. F1 counts
    mitoses within 7.5 µm as the MIDOG challenge does; kappa is over objects that both labelled within 7.5 µm:
    mitosis or look-alike, and normal or atypical. Intervals are 95 %, by bootstrap over cases.
    """
    from midog_qupath.evaluation.agreement import AgreementOptions, agreement
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.qpproj import open_project

    progress = TerminalProgress()
    opened = open_project(project)
    chosen = AgreementOptions(class_map=ClassMap.parse(options.pop("class_map")), **options)
    with store.open(opened, progress)() as objects:
        data = agreement(opened, objects, first, second, chosen, progress).as_json()
    if as_json:
        print_json(data)
    else:
        _show(data)
    return 0


def _show(data: dict[str, Any]) -> None:
    images, cases = counted(data["images"], "image"), counted(data["cases"], "case")
    click.echo(
        f"{data['b']} against {data['a']}: {images} of {cases}, "
        f"{counted(data['mitoses_a'], 'mitosis', 'mitoses')} of a, {data['mitoses_b']} of b"
    )
    counts = data["b_against_a"]
    for name in ("precision", "recall", "f1"):
        click.echo(f"  {name:24} {_figure(counts[name], counts['ci'].get(name))}")
    for key, label in _KAPPAS:
        one = data[key]
        click.echo(
            f"  {label:26} {_figure(one['kappa'], one['ci'])}  over {counted(one['objects'], 'object')}"
        )
    if data["left_out_images"]:
        click.echo(f"Left out: {counted(data['left_out_images'], 'image')} that only one of both labelled")


def _figure(value: float | None, ends: list[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")
