"""The examples run as they stand, on a small generated project."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import cv2
import pytest

from midog_qupath.demo.project import generate_project
from midog_qupath.models.bundle import read_card
from midog_qupath.project.model import ObjectKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return generate_project(tmp_path_factory.mktemp("examples") / "p", seed=5, count=9, size_px=224)


@pytest.fixture
def example(monkeypatch, capsys):
    def run(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(next(EXAMPLES.glob(f"{name}_*.py"))), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_annotations_are_read(example, project):
    printed = example("01", project)
    assert printed.count("# ") == 9
    assert "\tMitosis: Normal\t" in printed
    assert "all is labelled" in printed


def test_tiles_are_exported(example, project, tmp_path):
    example("02", project, tmp_path)
    tiles = list(tmp_path.glob("*/*.png"))
    assert {tile.parent.name for tile in tiles} >= {"normal", "non_mitosis"}
    assert all(cv2.imread(str(tile)).shape == (64, 64, 3) for tile in tiles)


@pytest.mark.long
def test_a_small_model_is_trained_annotates_and_is_evaluated(example, project, tmp_path):
    printed = example("03", project, tmp_path)
    model = tmp_path / "model" / "model.safetensors"
    assert str(model) in printed
    assert read_card(model).trained_cases
    assert example("05", project, model).startswith("pooled\tF1 ")


def test_detections_are_written_and_counted(example, project):
    printed = example("04", project)
    found = sum(int(line.split("\t")[0]) for line in printed.splitlines() if "\t" in line)
    opened = open_project(project)
    with NativeStore(opened) as store:
        things = [thing for entry in opened.images for thing in store.read(entry)]
    assert sum(thing.kind is ObjectKind.DETECTION for thing in things) == found
    lines = example("06", project).splitlines()
    assert len(lines) == 9
    assert all("mitoses in" in line for line in lines)


def test_each_is_short_and_says_how_it_is_called():
    files = sorted(EXAMPLES.glob("*.py"))
    assert [file.name[:2] for file in files] == [f"{n:02d}" for n in range(1, 7)]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert 20 <= len(text.splitlines()) <= 50, file.name
        assert f"python examples/{file.name} PROJECT" in text.splitlines()[0]
