"""``midog-qupath compile``: a model for OpenVINO and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
    help="Where to write it; default: model.onnx beside the model.",
)  # fmt: skip
def command(model: Path | None, output: Path | None) -> int:
    """Write MODEL (a file or the folder of a training; default: the released one) as ONNX.

    `midog-qupath annotate --compiled FILE` then runs it by OpenVINO, or by ONNX Runtime where OpenVINO is
    missing: faster on CPUs without bf16 instructions. Needs `pip install midog-qupath[compile]`.
    """
    from midog_qupath.errors import ModelError
    from midog_qupath.inference.compiled import export_onnx
    from midog_qupath.models.bundle import FILE_NAME, load_bundle
    from midog_qupath.models.find import released_model

    found = model or released_model()
    if found is None:
        raise ModelError("This version ships no model.", "Give the folder or file of one that you trained.")
    file = found / FILE_NAME if found.is_dir() else found
    target = output or file.with_suffix(".onnx")
    export_onnx(load_bundle(file), target)
    click.echo(f"Compiled: {target}")
    return 0
