"""The network as an ONNX file, run by OpenVINO or ONNX Runtime: for CPUs, as an optional extra.

The file holds the shape of the computation; its weights are replaced by those of the model as used to each
image, so that one file serves all images.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from midog_qupath import files
from midog_qupath.errors import ModelError
from midog_qupath.inference.read import Pixels
from midog_qupath.inference.segment import Normalise, Precision, Seen, Segmenter, mitosis_probability
from midog_qupath.models.bundle import Bundle
from midog_qupath.models.fast import run_only
from midog_qupath.models.student import Student

_SHA, _INPUT = "midog_qupath_model_sha256", "images"
_INSTALL = "Install it with `pip install midog-qupath[compile]`."


class _Outputs(nn.Module):
    def __init__(self, network: Student) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits, features = self.network.segment(images)
        return (logits, *features)


def export_onnx(bundle: Bundle, path: Path) -> None:
    """Write the network of a model as ONNX. Raises ModelError where the package onnx is missing."""
    _require("onnx")
    import onnx

    folded = run_only(bundle.network.cpu(), torch.float32).to(memory_format=torch.contiguous_format)
    names = ["logits", *(f"features{index}" for index in range(5))]
    free = {0: "batch", 2: "height", 3: "width"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter that is not deprecated loses the names by which weights are replaced.
        warnings.simplefilter("ignore", DeprecationWarning)
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            _Outputs(folded),
            (torch.zeros(1, 3, 128, 128),),
            file,
            dynamo=False,
            opset_version=17,
            do_constant_folding=False,
            input_names=[_INPUT],
            output_names=names,
            dynamic_axes=dict.fromkeys([_INPUT, *names], free),
        )
        graph = onnx.load(file)
    graph.metadata_props.add(key=_SHA, value=bundle.sha256)
    files.write_bytes(path, graph.SerializeToString())


def load_compiled(
    path: Path, bundle: Bundle, precision: Precision, runtime: str | None = None
) -> Callable[[Bundle], Segmenter]:
    """What makes of each image's own model what is run.

    ``runtime``: openvino or onnxruntime; None takes OpenVINO where it is installed.
    Raises ModelError for a file that is none, or was made of another model.
    """
    _require("onnx")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path)
    except (OSError, ValueError, RuntimeError, DecodeError) as error:
        raise ModelError(f"{path} is no compiled model.", "Make it with `midog-qupath compile`.") from error
    made_of = {prop.key: prop.value for prop in graph.metadata_props}.get(_SHA)
    if made_of != bundle.sha256:
        raise ModelError(
            f"{path} was compiled from another model.", "Run `midog-qupath compile` on this one."
        )
    openvino = runtime == "openvino" or (runtime is None and importlib.util.find_spec("openvino"))
    run = _openvino if openvino else _onnxruntime

    def make(used: Bundle) -> Segmenter:
        return CompiledSegmenter(used, run(_with_weights(graph, used), precision))

    return make


class CompiledSegmenter:
    """See :class:`midog_qupath.inference.segment.Segmenter`."""

    reduce: int

    def __init__(self, bundle: Bundle, run: Callable[[Any], list[Any]]) -> None:
        self.reduce = bundle.card.network.reduce
        self._run = run
        self._normalise = Normalise(bundle, torch.float32, torch.device("cpu"))

    def __call__(self, pixels: Pixels) -> Seen:
        """See :class:`Segmenter`."""
        images = np.ascontiguousarray(self._normalise(pixels).numpy())
        logits, *features = (torch.from_numpy(output) for output in self._run(images))
        return Seen(mitosis_probability(logits), tuple(features))


def _with_weights(graph: Any, bundle: Bundle) -> bytes:
    """The graph with the weights of a model, normalisation folded in."""
    import onnx

    weights = run_only(bundle.network, torch.float32).state_dict()
    own = onnx.ModelProto()
    own.CopyFrom(graph)
    for tensor in own.graph.initializer:
        name = tensor.name.removeprefix("network.")
        if name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[name].contiguous().numpy(), tensor.name))
    return bytes(own.SerializeToString())


def _openvino(graph: bytes, precision: Precision) -> Callable[[Any], list[Any]]:
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    compiled = core.compile_model(core.read_model(graph, b""), "CPU", hints)
    request = compiled.create_infer_request()

    def run(images: Any) -> list[Any]:
        found = request.infer({_INPUT: images}, share_inputs=True)
        return [np.array(found[output]) for output in compiled.outputs]

    return run


def _onnxruntime(graph: bytes, precision: Precision) -> Callable[[Any], list[Any]]:
    _require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda images: list(session.run(None, {_INPUT: images}))


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModelError(f"The package {package} is not installed.", _INSTALL)
