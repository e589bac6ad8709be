"""``review_detections.groovy``: the queue, and decisions on the detections themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from groovy_project import annotate, call, objects, places, run_script, two_images
from test_main_job import run

from midog_qupath.dataset.store import Dataset
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import Project
from midog_qupath.project.ours import Standing, classify
from midog_qupath.project.shapes import centre

pytestmark = [pytest.mark.qupath, pytest.mark.long]

#: What the functions are given in the script itself.
START = """
def hierarchy = data.getHierarchy()
def runs = script.readRuns(project.getPath().getParent().resolve('midog-qupath'))
def queue = { script.queue(hierarchy, runs) }
def place = { roi -> [Math.round(roi.getCentroidX()), Math.round(roi.getCentroidY())] }
def places = { list -> list.collect { place(it.getROI()) } }
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Four detections; by uncertainty: 200 (atypical 0.52), 50 (mitosis 0.55), 100, 300. Thresholds 0.5."""
    project = two_images(tmp_path)
    annotate(
        project, 1, (50, 50, 0.55, 0.1), (100, 100, 0.9, 0.3), (200, 200, 0.9, 0.52), (300, 50, 0.99, 0.01)
    )
    run_script(project, "import_detections.groovy")
    return project


def test_the_most_uncertain_come_first_and_the_queue_goes_on_after_qupath_was_closed(
    project: Project,
) -> None:
    first = call(
        project,
        "review_detections.groovy",
        START
        + "def all = places(queue()); script.decide(hierarchy, queue()[0], null); [all, places(queue())]",
    )
    assert first == [[[200, 200], [50, 50], [100, 100], [300, 50]], [[50, 50], [100, 100], [300, 50]]]
    again = call(project, "review_detections.groovy", START + "places(queue())")
    assert again == first[1]


def test_decisions_are_the_class_and_a_measurement_of_the_detection(project: Project) -> None:
    code = """
    def (atypical, rejected, normal, undone) = queue()
    script.decide(hierarchy, atypical, 'Mitosis: Atypical')
    script.decide(hierarchy, rejected, 'Non-mitosis')
    script.decide(hierarchy, normal, null)
    def before = script.decide(hierarchy, undone, 'Non-mitosis')
    script.takeBack(hierarchy, before)
    places(queue())
    """
    assert call(project, "review_detections.groovy", START + code) == [[300, 50]]
    found = {tuple(round(value) for value in centre(thing)): thing for thing in objects(project)}
    by_place = {
        place: (thing.class_name, thing.measurements.get("Reviewed")) for place, thing in found.items()
    }
    assert by_place == {
        (200, 200): ("Mitosis: Atypical", 1),
        (50, 50): ("Non-mitosis", 1),
        (100, 100): ("Mitosis: Normal", 1),
        (300, 50): ("Mitosis: Normal", None),
        (310, 310): ("Mitosis", None),
    }
    standings = classify([found[place] for place in sorted(found)], load_manifests(project))
    assert standings == [
        Standing.TOUCHED, Standing.TOUCHED, Standing.TOUCHED, Standing.UNTOUCHED, Standing.THEIRS
    ]  # fmt: skip


def test_a_new_run_leaves_what_was_reviewed(project: Project) -> None:
    call(
        project, "review_detections.groovy", START + "script.decide(hierarchy, queue()[1], 'Non-mitosis'); 1"
    )
    annotate(project, 2, (52, 52), (101, 101))
    run_script(project, "import_detections.groovy")
    assert places(project) == {(50, 50), (101, 101)}


def test_the_script_itself_runs_without_a_window(project: Project) -> None:
    (ids, _) = run_script(project, "review_detections.groovy")
    assert len(ids) == 4


def test_export_takes_what_was_decided_in_qupath(project: Project) -> None:
    code = """
    def (atypical, rejected, deleted) = queue()
    script.decide(hierarchy, atypical, 'Mitosis: Atypical')
    script.decide(hierarchy, rejected, 'Non-mitosis')
    hierarchy.removeObjects([deleted], false)
    places(queue())
    """
    assert call(project, "review_detections.groovy", START + code) == [[300, 50]]
    run("export", str(project.path), "--store", "native")
    dataset = Dataset.open(project.ours / "dataset")
    name = project.images[0].name
    rows = {(round(row.x), round(row.y)): row.label for row in dataset.objects if row.image == name}
    assert rows == {
        (200, 200): "Mitosis: Atypical",
        (50, 50): "Non-mitosis",
        (100, 100): "Non-mitosis",
        (310, 310): "Mitosis",
    }
