"""The main job: three commands with nothing but a project, on a generated one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_recipe import TINY

from midog_qupath.cli.main import cli
from midog_qupath.demo.project import generate_project
from midog_qupath.project.model import ObjectKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, list(arguments), standalone_mode=False, catch_exceptions=False)
    assert result.return_value in (None, 0)
    return result


def test_export_train_annotate_evaluate_need_nothing_but_the_project(tmp_path: Path) -> None:
    path = generate_project(tmp_path / "project", seed=3, count=18, size_px=256)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY, encoding="utf-8")
    project = str(path)
    before = {e.entry_id: NativeStore(open_project(path)).read(e) for e in open_project(path).images}
    run("export", project, "--store", "native")
    run("train", project, "--recipe", str(recipe))
    first = json.loads(run("annotate", project, "--store", "native", "--threshold", "0.1", "--json").stdout)
    assert first["images"] == 18
    opened = open_project(path)
    after = {e.entry_id: NativeStore(opened).read(e) for e in opened.images}
    people = {k: [t for t in v if t.kind is ObjectKind.ANNOTATION] for k, v in after.items()}
    assert people == before
    ours = sum(t.kind is ObjectKind.DETECTION for v in after.values() for t in v)
    assert ours == first["added"]
    second = json.loads(run("annotate", project, "--store", "native", "--threshold", "0.1", "--json").stdout)
    assert second["removed"] == ours
    again = {e.entry_id: NativeStore(opened).read(e) for e in opened.images}
    assert sum(t.kind is ObjectKind.DETECTION for v in again.values() for t in v) == second["added"]
    figures = json.loads(run("evaluate", project, "--store", "native", "--json").stdout)
    pooled = figures["detection"]["pooled"]
    assert pooled["tp"] + pooled["fn"] > 0
    assert not figures["in_sample"]
    run_figures = json.loads(
        run("evaluate", project, "--store", "native", "--detections", second["run"], "--json").stdout
    )
    assert run_figures["detection"]["images"] == figures["detection"]["images"]


@pytest.mark.long
def test_demo_reaches_what_otsu_does_not(tmp_path: Path) -> None:
    run("demo", str(tmp_path / "demo"))
    project = str(tmp_path / "demo" / "project.qpproj")
    figures = json.loads(run("evaluate", project, "--json").stdout)
    assert figures["detection"]["pooled"]["f1"] >= 0.7
