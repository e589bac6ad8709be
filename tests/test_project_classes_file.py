"""Adding classes to a project never changes those it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midog_qupath.errors import StoreError
from midog_qupath.project.classes_file import ensure_classes
from midog_qupath.project.model import PathClass, Project


def project_with(folder: Path, text: str | None) -> Project:
    if text is not None:
        (folder / "classifiers").mkdir()
        (folder / "classifiers" / "classes.json").write_text(text, encoding="utf-8")
    return Project(folder / "project.qpproj", None, (), ())


def content(project: Project) -> dict:
    return json.loads((project.folder / "classifiers" / "classes.json").read_text(encoding="utf-8"))


def test_missing_classes_are_added_behind_those_that_stay(tmp_path: Path) -> None:
    old = {"pathClasses": [{"name": "Mitosis", "color": -1, "note": "ours"}, {"name": "A: B"}], "other": 1}
    project = project_with(tmp_path, json.dumps(old))
    wanted = [PathClass("Mitosis", 0), PathClass("A:B", 0), PathClass("New", 0xFF0000FF)]
    assert ensure_classes(project, wanted)
    assert content(project) == old | {
        "pathClasses": [*old["pathClasses"], {"name": "New", "color": -16776961}]
    }
    assert not ensure_classes(project, wanted)


def test_a_project_without_the_file_gets_one(tmp_path: Path) -> None:
    project = project_with(tmp_path, None)
    ensure_classes(project, [PathClass("Mitosis")])
    assert content(project) == {"pathClasses": [{"name": "Mitosis"}]}


@pytest.mark.parametrize("text", ["", "[]", '{"pathClasses": 1}', '{"pathClasses": ["Mitosis"]}'])
def test_a_file_that_is_not_understood_is_not_overwritten(tmp_path: Path, text: str) -> None:
    project = project_with(tmp_path, text)
    with pytest.raises(StoreError, match="not a list of classes"):
        ensure_classes(project, [PathClass("Mitosis")])
    assert (tmp_path / "classifiers" / "classes.json").read_text() == text
