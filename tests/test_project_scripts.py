"""``midog-qupath scripts`` brings the scripts into a project and never over what a person changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_project import label, square
from inference_standin import Command, painted, painted_project

from midog_qupath.project.model import Project
from midog_qupath.project.scripts import copy_scripts
from midog_qupath.resources import shipped


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return painted_project(
        tmp_path / "p", {"a.png": painted(50, 50, [])}, {"a.png": [label("X", square(9, 9), 1)]}
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / f"{name}.groovy").write_text(f"println '{name}'")
    return folder


def states(project: Project, source: Path) -> dict[str, str]:
    return {script.path.stem: script.state for script in copy_scripts(project, source)}


def test_new_scripts_replace_older_ones_but_not_those_that_a_person_changed(
    project: Project, source: Path
) -> None:
    assert states(project, source) == dict.fromkeys(("one", "two", "three"), "new")
    assert states(project, source) == dict.fromkeys(("one", "two", "three"), "same")
    mine = project.folder / "scripts" / "one.groovy"
    mine.write_text("println 'mine'")
    (source / "one.groovy").write_text("println 'one, newer'")
    (source / "two.groovy").write_text("println 'two, newer'")
    assert states(project, source) == {"one": "kept", "two": "updated", "three": "same"}
    assert mine.read_text() == "println 'mine'"
    assert (project.folder / "scripts" / "two.groovy").read_text() == "println 'two, newer'"
    mine.unlink()
    assert states(project, source)["one"] == "new"


def test_a_script_that_was_there_before_is_a_persons(project: Project, source: Path) -> None:
    theirs = project.folder / "scripts" / "one.groovy"
    theirs.parent.mkdir()
    theirs.write_text("println 'theirs'")
    assert states(project, source)["one"] == "kept"
    (project.ours / "scripts.json").write_text("{damaged")
    assert states(project, source)["one"] == "kept"
    assert theirs.read_text() == "println 'theirs'"


def test_the_command(project: Project, monkeypatch, capsys) -> None:
    command = Command(monkeypatch, capsys)
    code, out, _ = command("scripts", project.path, "--json")
    assert code == 0
    names = {Path(row["script"]).name for row in json.loads(out)}
    assert names == {path.name for path in shipped("groovy").glob("*.groovy")}
    (project.folder / "scripts" / "import_detections.groovy").write_text("mine")
    code, out, err = command("scripts", project.path)
    assert code == 0
    assert "import_detections.groovy" in err
    assert "kept" in out
