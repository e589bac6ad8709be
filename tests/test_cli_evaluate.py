"""The command ``evaluate`` with a real model file (of random weights) on a small real project."""

from __future__ import annotations

import json

import pytest
from dataset_project import label, square
from inference_standin import Command, painted, painted_project, save_untrained


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


@pytest.fixture
def project(tmp_path):
    images = {name: painted(300, 200, [(60, 60)]) for name in ("a.png", "b.png", "c.png")}
    labels = {
        "a.png": [label("Mitosis: Normal", square(60, 60), 1)],
        "b.png": [label("Mitosis: Atypical", square(60, 60), 1)],
    }
    metadata = {name: {"labelled": "whole", "domain": "A", "case": name[0]} for name in ("a.png", "b.png")}
    project = painted_project(tmp_path / "p", images, labels, metadata)
    save_untrained(project.ours / "models" / "20250101-000000" / "model.safetensors", trained_cases=("a",))
    return project


def test_the_newest_model_is_measured_on_what_it_has_not_seen(command, project):
    code, out, err = command("evaluate", project.path, "--store", "native", "--json")
    assert code == 0
    assert "20250101-000000" in err
    data = json.loads(out)
    assert data["left_out_cases"] == ["a"]
    assert (data["in_sample"], data["skipped_images"]) == (False, {})
    assert set(data["detection"]) == {
        "pooled", "per_domain", "per_region_type", "images", "mm2", "threshold",
    }  # fmt: skip
    pooled = data["detection"]["pooled"]
    assert pooled["tp"] + pooled["fn"] == 1
    assert (data["detection"]["images"], data["atypical"]["n_atypical"]) == (1, 1)
    assert set(data["curves"]) == {
        "lowest", "average_precision", "froc_auc", "atypical_roc_auc", "ci", "per_domain", "per_region_type",
    }  # fmt: skip
    assert data["curves"]["lowest"] == 0.02
    assert 0 <= data["curves"]["average_precision"] <= 1


def test_all_marks_every_number(command, project):
    code, out, _ = command("evaluate", project.path, "--store", "native", "--all")
    assert code == 0
    assert out.startswith("IN-SAMPLE")
    assert "Detection (in-sample): 2 images" in out
    assert "Normal against atypical (in-sample): 1 normal, 1 atypical" in out
    assert "average precision" in out
    assert "FROC-AUC (0 to 8)" in out


def test_a_run_is_measured_by_its_id(command, project):
    # A model is measured in fp32, and this untrained one has everything near its threshold.
    told = ("--store", "native", "--precision", "fp32", "--json")
    run = json.loads(command("annotate", project.path, *told)[1])["run"]
    options = ("--store", "native", "--detections", run, "--json")
    of_run = json.loads(command("evaluate", project.path, *options)[1])
    of_model = json.loads(command("evaluate", project.path, "--store", "native", "--json")[1])
    assert of_run["detection"] == of_model["detection"]
    assert of_run["left_out_cases"] == ["a"]
    # A run holds nothing below its threshold.
    assert of_run["curves"] is None


def test_an_unreadable_image_makes_the_exit_code_one(command, project):
    (project.folder / "images" / "a.png").write_bytes(b"")
    code, out, err = command("evaluate", project.path, "--store", "native", "--all", "--json")
    assert code == 1
    assert list(json.loads(out)["skipped_images"]) == ["a.png"]
    assert "a.png was left out" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--image", "c*"), "no ground truth"),
        (("--image", "a*"), "every labelled case"),
        (("--ground-truth", "nowhere"), "no folder nowhere"),
        (("--detections", "nowhere"), "no run and no folder nowhere"),
        (("--model", "nowhere"), "no model at nowhere"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(command, project, words, says):
    code, out, err = command("evaluate", project.path, "--store", "native", *words)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("Error: ")
    assert says in err.splitlines()[-1]


def test_model_and_detections_exclude_each_other(command, project):
    assert command("evaluate", project.path, "--model", "m", "--detections", "r")[0] == 2
