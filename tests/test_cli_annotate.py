"""The command ``annotate`` with a real model file (of random weights) on a small real project."""

from __future__ import annotations

import json
import sys

import pytest
from dataset_project import label, square
from inference_standin import Command, painted, painted_project, save_untrained
from shapely.geometry import box

from midog_qupath.models.bundle import read_card


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


@pytest.fixture
def project(tmp_path):
    images = {"a.png": painted(300, 200, [(60, 60)]), "b.png": painted(300, 200, [(150, 100)])}
    labels = {
        "a.png": [label("Region*", box(10, 10, 200, 190), 1), label("Mitosis", square(60, 60), 2)],
        "b.png": [label("Mitosis: Normal", square(150, 100), 3)],
    }
    return painted_project(tmp_path / "p", images, labels, {"a.png": {"case": "seen"}})


def test_without_a_model_the_error_says_train_first(command, project, monkeypatch):
    monkeypatch.setattr("midog_qupath.models.find._RELEASED", project.ours / "none")
    code, _, err = command("annotate", project.path)
    assert code == 1
    assert f"Run `midog-qupath train {project.path}` first" in err


def test_a_wrong_name_is_said_before_anything_heavy_is_loaded(command, project, monkeypatch):
    # None in their place lets every import of them fail.
    for heavy in ("torch", "midog_qupath.inference.annotate", "midog_qupath.models.bundle"):
        monkeypatch.setitem(sys.modules, heavy, None)
    code, _, err = command("annotate", project.path, "--image", "A.png", "--model", project.ours / "none")
    assert code == 1
    assert "No image of the project is called A.png" in err


def test_the_newest_model_of_the_project_is_taken(command, project, model):
    for time in ("20250101-000000", "20250202-000000"):
        folder = project.ours / "models" / time
        folder.mkdir(parents=True)
        (folder / model.name).write_bytes(model.read_bytes())
    code, out, err = command("annotate", project.path, "--store", "native", "--device", "cpu")
    assert code == 0
    assert "20250202-000000" in err
    assert "the newest of 2" in err
    assert "native (asked for)" in err
    assert "added" in out
    card = read_card(model)
    mitosis, atypical = card.threshold, card.atypical_threshold
    assert f"mitosis from a probability of {mitosis:.3g} on, atypical from {atypical:.3g} on" in out


def test_json_tells_what_was_written(command, project, model):
    options = ("--model", model.parent, "--store", "native", "--json", "--image", "a*")
    code, out, _ = command("annotate", project.folder, *options)
    assert code == 0
    data = json.loads(out)
    assert data["images"] == 1
    assert data["added"] == sum(data["found"].values()) > 0
    assert data["failed"] == {}
    card = read_card(model)
    assert (data["threshold"], data["atypical_threshold"]) == (card.threshold, card.atypical_threshold)


def test_regions_without_a_class_are_the_labelled_regions(command, project, model):
    options = ("--model", model, "--store", "native", "--sidecar-only", "--json", "--regions")
    data = json.loads(command("annotate", project.path, *options)[1])
    assert data["images"] == 1
    assert data["mm2"] == pytest.approx(190 * 180 * 0.25**2 / 1e6)
    assert data["backup"] is None


def test_an_image_that_fails_makes_the_exit_code_one(command, project, model):
    (project.folder / "images" / "a.png").write_bytes(b"")
    code, _, err = command("annotate", project.path, "--model", model, "--store", "native")
    assert code == 1
    assert "a.png" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--model", "nowhere"), "no model at nowhere"),
        (("--image", "zzz"), "No image of the project is called zzz"),
        (("--within", "nowhere.geojson"), "There is no file nowhere.geojson"),
        (("--compiled", "nowhere.onnx"), "There is no file nowhere.onnx"),
        (("--regions", "Tumour"), "No image has an annotation of class Tumour"),
        (("--class-map", "nonsense"), "no class mapping"),
        (("--device", "mps"), "no usable device mps"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(command, project, model, words, says):
    defaults = () if "--model" in words else ("--model", model)
    code, out, err = command("annotate", project.path, "--store", "native", *defaults, *words)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("Error: ")
    assert says in err.splitlines()[-1]


def test_when_all_is_searched_there_is_nothing_to_do(command, project, model):
    words = ("annotate", project.path, "--model", model, "--store", "native", "--skip-existing")
    assert command(*words)[0] == 0
    code, out, _ = command(*words)
    assert code == 0
    assert out.startswith("Nothing to do")
    code, out, _ = command(*words, "--json")
    assert (code, json.loads(out)["images"]) == (0, 0)


def test_a_damaged_model_is_an_error(command, project, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"half a mod")
    code, _, err = command("annotate", project.path, "--model", tmp_path)
    assert code == 1
    assert "damaged" in err


def test_areas_are_named_once(command, project):
    code, _, err = command("annotate", project.path, "--regions", "X", "--within", "f")
    assert code == 2
    assert "not both" in err
