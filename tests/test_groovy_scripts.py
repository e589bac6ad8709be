"""The scripts that a pathologist runs inside QuPath bring sidecars in and ground truth out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from groovy_project import annotate, change, objects, places, run_script, two_images
from store_objects import require_same

from midog_qupath.project.imported import with_imports
from midog_qupath.project.manifest import load_manifests, save_manifest
from midog_qupath.project.model import ObjectKind, PathClass, Project
from midog_qupath.project.ours import Standing, classify, deleted
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.sidecar import SidecarStore

NAMES = ["b/1: x.png", "a.png", "A.tif.png", "nul.png", "2.5x region", ".png"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return two_images(tmp_path)


@pytest.mark.long
@pytest.mark.qupath
def test_detections_come_in_once_and_replace_those_that_nobody_touched(project: Project) -> None:
    before = objects(project)
    annotate(project, 1, (50, 50), (100, 100), (200, 200), (250, 50))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(50, 50), (100, 100), (200, 200), (250, 50)}
    require_same([thing for thing in objects(project) if thing.kind is ObjectKind.ANNOTATION], before)
    assert classify(objects(project), load_manifests(project)).count(Standing.UNTOUCHED) == 4

    change(project, (100, 100), path_class=PathClass("Non-mitosis", -256))
    change(project, (200, 200))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(50, 50), (100, 100), (250, 50)}

    # 28 px are 7 um: a detection there is the one that a person changed, or deleted.
    annotate(project, 2, (55, 50), (128, 100), (200, 172), (350, 350))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(55, 50), (100, 100), (350, 350)}
    assert len(deleted(objects(project), load_manifests(project), project.images[0].entry_id)) == 1


@pytest.mark.long
@pytest.mark.qupath
def test_what_a_person_did_after_the_run_and_before_the_import_counts(project: Project) -> None:
    annotate(project, 1, (50, 50), (100, 100), (200, 200))
    run_script(project, "import_detections.groovy")
    annotate(project, 2, (50, 60), (110, 100), (200, 210))
    change(project, (100, 100), name="looked at")
    change(project, (200, 200))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(50, 60), (100, 100)}


@pytest.mark.long
@pytest.mark.qupath
def test_two_runs_are_taken_in_one_after_the_other_and_an_undone_one_never(project: Project) -> None:
    annotate(project, 1, (50, 50), (100, 100))
    annotate(project, 2, (50, 52), (300, 100))
    annotate(project, 3, (10, 10))
    save_manifest(project, load_manifests(project)[2].model_copy(update={"undone": True}))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(50, 52), (300, 100)}


@pytest.mark.long
@pytest.mark.qupath
def test_what_was_taken_in_and_wholly_deleted_is_known_and_never_comes_back(project: Project) -> None:
    annotate(project, 1, (50, 50), (100, 100))
    annotate(project, 2, (50, 52), (102, 100))
    assert gone(project) == set()
    run_script(project, "import_detections.groovy")
    assert places(project) == {(50, 52), (102, 100)}
    assert gone(project) == set()  # the first run was replaced, which no manifest had planned

    change(project, (50, 52))
    change(project, (102, 100))
    assert gone(project) == {(50, 52), (102, 100)}
    annotate(project, 3, (52, 52), (300, 100))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(300, 100)}
    assert gone(project) == {(50, 52), (102, 100)}


def gone(project: Project) -> set[tuple[int, int]]:
    """Where a person deleted a detection of the first image."""
    entry = project.images[0]
    runs = with_imports(load_manifests(project), entry, NativeStore(project))
    return {(round(x), round(y)) for x, y in deleted(objects(project), runs, entry.entry_id)}


@pytest.mark.long
@pytest.mark.qupath
def test_ground_truth_goes_out_with_what_a_person_changed_and_is_read_as_such(project: Project) -> None:
    annotate(project, 1, (50, 50), (100, 100), (200, 200))
    run_script(project, "import_detections.groovy")
    change(project, (50, 50), path_class=PathClass("Mitosis: Atypical", -256))
    change(project, (100, 100), measurements={"Reviewed": 1.0, "midog run": 1.0})
    run_script(project, "export_ground_truth.groovy")
    sidecar = SidecarStore(project)
    first, second = (sidecar.read(entry) for entry in project.images)
    assert (len(first), len(second)) == (3, 1)
    standings = classify(first, load_manifests(project))
    assert sorted(standings) == [Standing.THEIRS, Standing.TOUCHED, Standing.TOUCHED]
    assert {thing.class_name for thing in first} == {"Mitosis", "Mitosis: Atypical", "Mitosis: Normal"}


@pytest.mark.long
@pytest.mark.qupath
def test_files_have_the_names_that_this_program_reads(project: Project) -> None:
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    raw["images"] = [
        {**raw["images"][0], "entryID": number, "imageName": name} for number, name in enumerate(NAMES, 1)
    ]
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    renamed = open_project(project.path)
    run_script(renamed, "export_ground_truth.groovy")
    files = {path.name for path in (project.ours / "ground-truth").iterdir()}
    assert files == {f"{entry.stem}.geojson" for entry in renamed.images}
    assert len(files) == len(NAMES)
