"""Detections into the real project: everything that its pathologists drew stays, to the last object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from shapely.geometry import box
from write_objects import detection, next_run

from midog_qupath.progress import SILENT
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ObjectKind, PathClass, Project
from midog_qupath.project.ours import Standing, deleted_positions, ours_state
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.results import ImageResult, RunReport
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.sidecar import SidecarStore
from midog_qupath.project.write import write_detections
from midog_qupath.units import MicronsPerPixel

MPP = MicronsPerPixel(0.25)
CENTRES = [(100.0, 100.0), (300.0, 300.0), (700.0, 700.0)]


def run(project: Project, store: type, shift: float = 0.0) -> RunReport:
    found = [detection(x + shift, y, atypical=x / 1000) for x, y in CENTRES]
    results = [
        ImageResult(entry, found, box(0, 0, entry.width, entry.height), MPP) for entry in project.images[::7]
    ]
    return write_detections(
        project,
        lambda: store(project),
        results,
        next_run(project),
        keep=False,
        sidecar_only=False,
        progress=SILENT,
    )


@pytest.mark.realdata
def test_people_s_objects_stay_and_reruns_follow_the_rules(real_project: Path) -> None:
    project = open_project(real_project)
    store = NativeStore(project)
    before = {entry.entry_id: store.read(entry) for entry in project.images}
    classes = (project.folder / "classifiers" / "classes.json").read_bytes()
    assert not run(project, NativeStore).failed
    first = project.images[0]
    written = store.read(first)
    deleted, touched = written[-3], written[-2]
    changed = replace(touched, path_class=PathClass("Non-mitosis", -8421505))
    store.apply(first, Edit(frozenset({deleted.id, touched.id}), (changed,), store.fingerprint(first)))

    report = run(project, NativeStore, shift=5)

    assert not report.failed
    for entry in project.images:
        people = [item for item in store.read(entry) if item.kind is ObjectKind.ANNOTATION]
        assert people == before[entry.entry_id]
    standing = ours_state(project)
    ours = [item for item in store.read(first) if item.kind is ObjectKind.DETECTION]
    assert sorted(standing(item) for item in ours) == [Standing.TOUCHED, Standing.UNTOUCHED]
    gone = deleted_positions(store.read(first), load_manifests(project), first.entry_id, MPP)
    assert gone == [(100.0, 100.0)]
    assert (report.images[0].near_ours, report.images[0].near_deleted) == (1, 1)
    assert (project.folder / "classifiers" / "classes.json").read_bytes() == classes


@pytest.mark.realdata
def test_the_sidecar_store_leaves_every_data_file_as_it_is(real_project: Path) -> None:
    project = open_project(real_project)
    files = [path for path in (project.folder / "data").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    run(project, SidecarStore)
    report = run(project, SidecarStore, shift=5)
    assert report.failed == ()
    assert {image.state for image in report.images} == {"sidecar"}
    assert [image.removed for image in report.images] == [3] * len(report.images)
    assert {path: path.read_bytes() for path in files} == before
