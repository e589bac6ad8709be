"""``remove_detections.groovy`` takes out what is ours, and that is not a person's deletion."""

from __future__ import annotations

from pathlib import Path

import pytest
from groovy_project import annotate, change, objects, places, run_script, two_images
from store_objects import require_same
from test_main_job import run

from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Project
from midog_qupath.project.ours import deleted

pytestmark = [pytest.mark.qupath, pytest.mark.long]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Detections of ours at four places: two as written, one with another class, one deleted by a person."""
    project = two_images(tmp_path)
    annotate(project, 1, (50, 50), (100, 100), (200, 200), (250, 50))
    run_script(project, "import_detections.groovy")
    change(project, (100, 100), path_class=PathClass("Non-mitosis", -256))
    change(project, (200, 200))
    return project


def people(project: Project) -> list[PathObject]:
    return [thing for thing in objects(project) if thing.kind is ObjectKind.ANNOTATION]


def held_for_deleted(project: Project) -> set[tuple[int, int]]:
    found = deleted(objects(project), load_manifests(project), project.images[0].entry_id)
    return {(round(x), round(y)) for x, y in found}


def test_untouched_ones_go_and_may_be_found_again(project: Project) -> None:
    before = people(project)
    run_script(project, "remove_detections.groovy")
    assert places(project) == {(100, 100)}
    require_same(people(project), before)
    assert held_for_deleted(project) == {(200, 200)}

    annotate(project, 2, (50, 50), (100, 100), (200, 200))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(50, 50), (100, 100)}


def test_all_of_ours_go_where_it_is_told(project: Project) -> None:
    before = people(project)
    run_script(project, "remove_detections.groovy", words=("--args", "all"))
    assert places(project) == set()
    require_same(people(project), before)
    assert held_for_deleted(project) == {(200, 200)}


def test_what_was_not_saved_did_not_happen(project: Project) -> None:
    run_script(project, "remove_detections.groovy", words=("--without-saving",))
    assert places(project) == {(50, 50), (100, 100), (250, 50)}
    change(project, (250, 50))
    assert held_for_deleted(project) == {(200, 200), (250, 50)}


def test_undo_brings_them_back(project: Project) -> None:
    run_script(project, "remove_detections.groovy")
    run("undo", str(project.path), "--store", "native")
    assert places(project) == {(50, 50), (100, 100), (250, 50)}
