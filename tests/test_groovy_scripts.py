"""The scripts that a pathologist runs inside QuPath bring sidecars in and ground truth out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest
from shapely.geometry import Point, box
from store_objects import require_same

from midog_qupath.detection import Detection
from midog_qupath.progress import SILENT
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.manifest import load_manifests, save_manifest
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.ours import Standing, classify, deleted
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.results import ImageResult
from midog_qupath.project.run import new_run
from midog_qupath.project.shapes import centre, centres
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import find_qupath
from midog_qupath.project.stores.sidecar import SidecarStore
from midog_qupath.project.write import write_detections
from midog_qupath.resources import shipped
from midog_qupath.units import MicronsPerPixel

SCRIPTS = ("export_ground_truth.groovy", "import_detections.groovy")
NAMES = ["b/1: x.png", "a.png", "A.tif.png", "nul.png", "2.5x region", ".png"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_ship_with_the_package_and_say_how_they_are_run(name: str) -> None:
    text = (shipped("groovy") / name).read_text(encoding="utf-8")
    assert text.startswith("/*")
    assert "Run for project" in text
    assert text.isascii()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    images = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((400, 400, 3), 200, np.uint8))
        images.append(NewImage(path, mpp=0.25))
    project = create_project(tmp_path / "p", images)
    for entry in project.images:
        NativeStore(project).create(entry, [drawn(300, 300)])
    return project


@pytest.fixture
def run(project: Project) -> Callable[..., None]:
    """Runs a script on images as QuPath does; skips where QuPath with Groovy is not found."""
    qupath = find_qupath()
    if qupath is None or not list(qupath.rglob("groovy*.jar")):
        pytest.skip("no QuPath with Groovy found")
    program = Path(__file__).with_name("groovy_runs.py")

    def run(script: str, *entries: ImageEntry) -> None:
        ids = [entry.entry_id for entry in entries or project.images]
        command = [sys.executable, str(program), str(project.path), str(shipped("groovy") / script), *ids]
        done = subprocess.run(command, capture_output=True, timeout=120, encoding="utf-8")
        assert done.returncode == 0, done.stderr + done.stdout

    return run


def drawn(x: float, y: float) -> PathObject:
    roi = Roi(RoiKind.RECTANGLE, box(x, y, x + 20, y + 20))
    return PathObject(uuid4(), ObjectKind.ANNOTATION, roi, PathClass("Mitosis", -65536))


def annotate(project: Project, hour: int, *places: tuple[int, int]) -> None:
    """A run at that hour which finds mitoses at these places of the first image, and leaves the project."""
    run = new_run(
        project,
        now=datetime(2025, 1, 1, hour),
        model="demo",
        model_sha256="0" * 64,
        threshold=0.5,
        atypical_threshold=0.5,
        class_map=ClassMap(),
        software={},
    )
    found = [Detection(x, y, 0.9, 0.2, Point(x, y).buffer(10)) for x, y in places]
    result = ImageResult(project.images[0], found, box(0, 0, 400, 400), MicronsPerPixel(0.25))
    store = lambda: NativeStore(project)  # noqa: E731
    write_detections(project, store, [result], run, keep=False, sidecar_only=True, progress=SILENT)


def objects(project: Project) -> list[PathObject]:
    return NativeStore(project).read(project.images[0])


def places(project: Project) -> set[tuple[int, int]]:
    """Where the detections of the first image lie."""
    found = [thing for thing in objects(project) if thing.kind is ObjectKind.DETECTION]
    return {(round(x), round(y)) for x, y in centres(found)}


def change(project: Project, at: tuple[int, int], **changes: object) -> None:
    """What a person does in QuPath to the detection at a place: without ``changes``, delete it."""
    store, entry = NativeStore(project), project.images[0]
    (thing,) = [one for one in store.read(entry) if one.roi and centre(one) == pytest.approx(at, abs=1)]
    assert thing.id is not None
    new = (replace(thing, **changes),) if changes else ()
    store.apply(entry, Edit(frozenset([thing.id]), new, store.fingerprint(entry)))


@pytest.mark.long
@pytest.mark.qupath
def test_detections_come_in_once_and_replace_those_that_nobody_touched(
    project: Project, run: Callable[..., None]
) -> None:
    before = objects(project)
    annotate(project, 1, (50, 50), (100, 100), (200, 200), (250, 50))
    run("import_detections.groovy")
    assert places(project) == {(50, 50), (100, 100), (200, 200), (250, 50)}
    require_same([thing for thing in objects(project) if thing.kind is ObjectKind.ANNOTATION], before)
    assert classify(objects(project), load_manifests(project)).count(Standing.UNTOUCHED) == 4

    change(project, (100, 100), path_class=PathClass("Non-mitosis", -256))
    change(project, (200, 200))
    run("import_detections.groovy")
    assert places(project) == {(50, 50), (100, 100), (250, 50)}

    # 28 px are 7 um: a detection there is the one that a person changed, or deleted.
    annotate(project, 2, (55, 50), (128, 100), (200, 172), (350, 350))
    run("import_detections.groovy")
    assert places(project) == {(55, 50), (100, 100), (350, 350)}
    assert len(deleted(objects(project), load_manifests(project), project.images[0].entry_id)) == 1


@pytest.mark.long
@pytest.mark.qupath
def test_what_a_person_did_after_the_run_and_before_the_import_counts(
    project: Project, run: Callable[..., None]
) -> None:
    annotate(project, 1, (50, 50), (100, 100), (200, 200))
    run("import_detections.groovy")
    annotate(project, 2, (50, 60), (110, 100), (200, 210))
    change(project, (100, 100), name="looked at")
    change(project, (200, 200))
    run("import_detections.groovy")
    assert places(project) == {(50, 60), (100, 100)}


@pytest.mark.long
@pytest.mark.qupath
def test_two_runs_are_taken_in_one_after_the_other_and_an_undone_one_never(
    project: Project, run: Callable[..., None]
) -> None:
    annotate(project, 1, (50, 50), (100, 100))
    annotate(project, 2, (50, 52), (300, 100))
    annotate(project, 3, (10, 10))
    save_manifest(project, load_manifests(project)[2].model_copy(update={"undone": True}))
    run("import_detections.groovy")
    assert places(project) == {(50, 52), (300, 100)}


@pytest.mark.long
@pytest.mark.qupath
def test_ground_truth_goes_out_with_what_a_person_changed_and_is_read_as_such(
    project: Project, run: Callable[..., None]
) -> None:
    annotate(project, 1, (50, 50), (100, 100), (200, 200))
    run("import_detections.groovy")
    change(project, (50, 50), path_class=PathClass("Mitosis: Atypical", -256))
    change(project, (100, 100), measurements={"Reviewed": 1.0, "midog run": 1.0})
    run("export_ground_truth.groovy")
    sidecar = SidecarStore(project)
    first, second = (sidecar.read(entry) for entry in project.images)
    assert (len(first), len(second)) == (3, 1)
    standings = classify(first, load_manifests(project))
    assert sorted(standings) == [Standing.THEIRS, Standing.TOUCHED, Standing.TOUCHED]
    assert {thing.class_name for thing in first} == {"Mitosis", "Mitosis: Atypical", "Mitosis: Normal"}


@pytest.mark.long
@pytest.mark.qupath
def test_files_have_the_names_that_this_program_reads(project: Project, run: Callable[..., None]) -> None:
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    raw["images"] = [
        {**raw["images"][0], "entryID": number, "imageName": name} for number, name in enumerate(NAMES, 1)
    ]
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    renamed = open_project(project.path)
    run("export_ground_truth.groovy", *renamed.images)
    files = {path.name for path in (project.ours / "ground-truth").iterdir()}
    assert files == {f"{entry.stem}.geojson" for entry in renamed.images}
    assert len(files) == len(NAMES)
