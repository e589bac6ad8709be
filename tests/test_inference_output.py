"""What a run writes beside detections: heat maps, a profile, a compiled model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from inference_standin import Command, painted, painted_project, save_untrained, standin_bundle

from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.compiled import export_onnx, load_compiled
from midog_qupath.inference.detect import Runtime, detect
from midog_qupath.inference.heatmap import HeatMap
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.learning.predict import ArraySlide
from midog_qupath.models.bundle import load_bundle
from midog_qupath.progress import SILENT
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.slides.open import open_slide


def test_a_heat_map_is_a_pyramid_in_the_image_s_own_coordinates(tmp_path):
    pixels = painted(2600, 700, [(200, 100), (2400, 600)])
    project = painted_project(tmp_path / "p", {"a.png": pixels})
    options = AnnotateOptions(heatmap=True, sidecar_only=True)
    model = project.ours / "m"
    bundle = standin_bundle()
    report = annotate_project(project, lambda: NativeStore(project), bundle, model, options, SILENT)
    path = report.sidecars / "a.heatmap.ome.tif"
    with open_slide(path) as heat:
        # The stand-in answers every second pixel.
        assert (heat.width, heat.height) == (1300, 350)
        assert heat.file_mpp == pytest.approx(0.5)
        assert len(heat.facts.levels) == 2
    values = tifffile.imread(path)
    assert values[50, 100] == values[300, 1200] == 255
    assert values[200, 600] < 5
    assert (values > 127).sum() == pytest.approx(2 * np.pi * 6**2, rel=0.2)


def test_an_interrupted_heat_map_is_kept(tmp_path):
    scratch = tmp_path / "u" / "a.heat"
    HeatMap(scratch, (100, 60), 2)._map[3, 4] = 9
    assert HeatMap(scratch, (100, 60), 2)._map[3, 4] == 9
    assert HeatMap(scratch, (100, 80), 2)._map.max() == 0


def test_a_profile_tells_where_the_time_went(tmp_path, monkeypatch, capsys):
    project = painted_project(tmp_path / "p", {"a.png": painted(300, 200, [(60, 60)])})
    model = save_untrained(tmp_path / "model.safetensors")
    file = tmp_path / "profile.json"
    words = ("annotate", project.path, "--store", "native", "--model", model, "--profile", file)
    code, _, _ = Command(monkeypatch, capsys)(*words)
    assert code == 0
    profile = json.loads(file.read_text())
    assert profile["seconds"] >= sum(profile["stages"].values()) * 0.99
    assert profile["stages"]["network"] > 0
    assert profile["mm2"] == pytest.approx(300 * 200 * 0.25**2 / 1e6)


@pytest.mark.long
def test_a_compiled_model_finds_what_the_model_finds_and_no_other_is_taken(tmp_path):
    pytest.importorskip("onnx")
    bundle = load_bundle(save_untrained(tmp_path / "model.safetensors"))
    file = tmp_path / "model.onnx"
    export_onnx(bundle, file)
    slide = ArraySlide(painted(400, 300, [(60, 60), (300, 200)]))
    wanted = detect(slide, 0.25, bundle)
    found = detect(slide, 0.25, bundle, runtime=Runtime(segmenter=load_compiled(file, bundle, "fp32")))
    assert len(wanted) == len(found) > 0
    for a, b in zip(found, wanted, strict=True):
        # An untrained network is flat: the highest pixel can be the next one.
        assert (a.x, a.y) == pytest.approx((b.x, b.y), abs=bundle.card.stride + 0.5)
        assert a.mitosis_probability == pytest.approx(b.mitosis_probability, abs=0.002)
    other = standin_bundle()
    with pytest.raises(Exception, match="compiled from another model"):
        load_compiled(file, other, "fp32")
    file.write_bytes(b"nothing")
    with pytest.raises(Exception, match="no compiled model"):
        load_compiled(file, bundle, "fp32")
