"""The script ``mitotic_count.groovy`` inside QuPath: the same command, its hotspot in the open image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_project import label, square
from inference_standin import painted, painted_project

from midog_qupath.counting.count import CountOptions, count_project
from midog_qupath.counting.result import Settings
from midog_qupath.counting.write import write_into_project
from midog_qupath.progress import SILENT
from midog_qupath.project.model import COUNT_MEASUREMENT, ObjectKind, RoiKind
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore, find_qupath
from midog_qupath.resources import shipped

SCRIPT = "mitotic_count.groovy"


@pytest.fixture
def project(tmp_path):
    images = {"a.png": painted(600, 600, []), "b.png": painted(600, 600, [])}
    labels = {
        "a.png": [label("Mitosis", square(300, y), n) for n, y in enumerate((280, 300, 320), 1)],
        "b.png": [label("Mitosis", square(300, 300), 1)],
    }
    return painted_project(tmp_path / "p", images, labels)


@pytest.fixture
def run(project, tmp_path):
    """Runs the script on images as QuPath does; skips where QuPath with Groovy is not found."""
    qupath = find_qupath()
    if qupath is None or not list(qupath.rglob("groovy*.jar")):
        pytest.skip("no QuPath with Groovy found")
    program = tmp_path / "midog-qupath"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m midog_qupath "$@"\n')
    program.chmod(0o755)
    text = (shipped("groovy") / SCRIPT).read_text(encoding="utf-8")
    # The images of the test are small.
    script = tmp_path / SCRIPT
    script.write_text(text.replace("'--area', '2.0'", "'--area', '0.005'"), encoding="utf-8")

    def run(*entries):
        ids = [entry.entry_id for entry in entries or project.images]
        runs = Path(__file__).with_name("groovy_runs.py")
        environment = {**os.environ, "MIDOG_QUPATH": str(program)}
        return subprocess.run(
            [sys.executable, str(runs), str(project.path), str(script), *ids],
            capture_output=True, timeout=240, encoding="utf-8", env=environment,
        )  # fmt: skip

    return run


def hotspots(project, index):
    objects = NativeStore(project).read(project.images[index])
    return [thing for thing in objects if COUNT_MEASUREMENT in thing.measurements]


def test_the_script_ships_and_says_how_it_is_run():
    text = (shipped("groovy") / SCRIPT).read_text(encoding="utf-8")
    assert text.startswith("/*")
    assert "Run for project" in text
    assert "not for diagnosis" in text
    assert text.isascii()


@pytest.mark.long
@pytest.mark.qupath
def test_the_hotspot_of_the_command_stands_in_the_image(project, run):
    before = [NativeStore(project).read(entry) for entry in project.images]
    done = run()
    assert done.returncode == 0, done.stderr
    for index, expected in enumerate((3, 1)):
        (hotspot,) = hotspots(project, index)
        assert hotspot.measurements["Mitotic count"] == expected
        assert (hotspot.kind, hotspot.class_name) == (ObjectKind.ANNOTATION, "Hotspot")
        others = [
            thing for thing in NativeStore(project).read(project.images[index]) if thing.id != hotspot.id
        ]
        assert {thing.id for thing in others} == {thing.id for thing in before[index]}
        kept = sorted((project.ours / "counts").iterdir())[index]
        assert json.loads((kept / "count.json").read_text())["images"][0]["count"] == expected
    assert "3 mitoses (3 drawn by people" in done.stderr + done.stdout


@pytest.mark.qupath
def test_qupath_reads_the_hotspots_that_the_command_writes(project):
    settings = Settings(area_mm2=0.005)
    with NativeStore(project) as store:
        counted = count_project(project, store, CountOptions(settings=settings))
    assert write_into_project(project, lambda: NativeStore(project), counted, SILENT).written == 2
    with PaquoStore(project) as store:
        (hotspot,) = [
            item for item in store.read(project.images[0]) if COUNT_MEASUREMENT in item.measurements
        ]
        assert (hotspot.kind, hotspot.class_name, hotspot.locked) == (ObjectKind.ANNOTATION, "Hotspot", True)
        assert hotspot.roi.kind is RoiKind.ELLIPSE
        assert hotspot.measurements["Mitotic count"] == 3
        assert hotspot.metadata["midog_qupath.count"] == counted.count


@pytest.mark.long
@pytest.mark.qupath
def test_run_again_it_replaces_its_own_and_leaves_what_a_person_took_over(project, run):
    entry, store = project.images[0], NativeStore(project)
    assert run(entry).returncode == 0
    (first,) = hotspots(project, 0)
    assert run(entry).returncode == 0
    (second,) = hotspots(project, 0)
    assert first.id != second.id
    # Named by a person, it stays.
    store.apply(entry, Edit(frozenset({second.id}), (), store.fingerprint(entry)))
    named = replace(second, name="mine")
    store.apply(entry, Edit(frozenset(), (), store.fingerprint(entry), labels=(named,)))
    assert run(entry).returncode == 0
    assert {thing.id for thing in hotspots(project, 0)} >= {second.id}
    assert len(hotspots(project, 0)) == 2
