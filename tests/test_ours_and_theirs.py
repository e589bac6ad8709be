"""Ours and theirs: each rule, through each of the stores."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from shapely.affinity import translate
from shapely.geometry import box
from store_objects import require_same
from write_worlds import MPP, World, deleted, make_world, people, reclassified

from midog_qupath.project.geojson import to_feature
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ObjectKind, PathObject
from midog_qupath.project.ours import Standing, deleted_positions, ours_state
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import Block
from midog_qupath.project.stores.paquo import find_qupath


@pytest.fixture(params=["native", "sidecar", pytest.param("paquo", marks=pytest.mark.qupath)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return make_world(tmp_path, request.param)


def moved(item: PathObject) -> PathObject:
    assert item.roi
    return replace(item, roi=replace(item.roi, geometry=translate(item.roi.geometry, 2.0)))


def reviewed(item: PathObject) -> PathObject:
    return replace(item, measurements={**item.measurements, "Reviewed": 1.0})


def named(item: PathObject) -> PathObject:
    return replace(item, name="sure")


def test_a_run_of_another_model_threshold_and_precision_replaces_what_nobody_touched(world: World) -> None:
    before = world.people()
    world.write((100, 100), (300, 300), run={"model": "one", "threshold": 0.5})
    report = world.write(
        (104, 100), (600, 300), run={"model": "two", "threshold": 0.9, "software": {"p": "bf16"}}
    )
    assert [(image.added, image.removed) for image in report.images] == [(2, 2)] * 2
    assert [world.places(entry) for entry in world.project.images] == [[(104, 100), (600, 300)]] * 2
    require_same(world.people(), before)


def test_what_lies_outside_the_searched_area_stays(world: World) -> None:
    world.write((100, 100), (700, 700))
    world.write((120, 120), area=box(0, 0, 400, 400))
    assert world.places() == [(120, 120), (700, 700)]


@pytest.mark.parametrize("change", [reclassified, moved, named, reviewed])
def test_what_a_person_touched_stays_and_nothing_new_comes_within_7_5_microns(world: World, change) -> None:
    world.write((100, 100), (300, 300))
    world.person(change, (100, 100))
    touched = [item for item in world.objects() if item.kind is ObjectKind.DETECTION]
    report = world.write((128, 100), (135, 100), (310, 300))
    at = (102, 100) if change is moved else (100, 100)
    near = 26 if change is moved else 28
    assert world.places() == sorted([at, (135, 100), (310, 300)])
    assert near <= 30 < 33
    assert (report.images[0].touched, report.images[0].near_ours) == (1, 1)
    kept = next(item for item in world.objects() if item.id in {one.id for one in touched})
    assert kept == next(item for item in touched if item.id == kept.id)
    assert world.standings()[at] is Standing.TOUCHED


def test_nothing_comes_within_7_5_microns_of_what_a_person_deleted(world: World) -> None:
    world.write((100, 100), (300, 300))
    world.person(deleted, (100, 100))
    report = world.write((128, 100), (135, 100), (300, 300))
    assert world.places() == [(135, 100), (300, 300)]
    assert report.images[0].near_deleted == 1
    # Again and again: the run in between does not wash it away.
    world.write((100, 100), (300, 300))
    assert world.places() == [(300, 300)]
    runs = load_manifests(world.project)
    assert deleted_positions(world.objects(), runs, world.image.entry_id, MPP) == [(100.0, 100.0)]


def test_keep_leaves_the_detections_of_earlier_runs(world: World) -> None:
    world.write((100, 100))
    world.write((110, 100), (300, 300), keep=True)
    assert world.places() == [(100, 100), (300, 300)]


def test_ours_teach_only_when_a_person_touched_them(world: World) -> None:
    world.write((100, 100), (300, 300))
    world.person(reclassified, (300, 300))
    state = ours_state(world.project)
    standings = [state(item) for item in world.objects()]
    assert sorted(standings) == sorted([Standing.THEIRS] * 3 + [Standing.TOUCHED, Standing.UNTOUCHED])


def keeps_metadata(world: World) -> bool:
    """QuPath 0.5 has no metadata for detections: through it, only our own files tell what we wrote."""
    qupath = find_qupath() if world.kind == "paquo" else None
    return qupath is None or not list(qupath.rglob("qupath-core-0.5*.jar"))


def test_a_project_passed_on_without_our_folder_still_tells_ours(world: World) -> None:
    world.write((100, 100), (300, 300))
    world.person(reclassified, (300, 300))
    shutil.rmtree(world.project.ours / "runs")
    if not keeps_metadata(world):
        assert set(world.standings().values()) == {Standing.UNPROVEN}
        return
    assert world.standings() == {(100, 100): Standing.UNTOUCHED, (300, 300): Standing.TOUCHED}
    world.write((110, 100), (310, 300))
    assert world.places() == [(110, 100), (300, 300)]


def test_the_colours_of_the_project_s_classes_stay(world: World) -> None:
    path = world.project.folder / "classifiers" / "classes.json"
    path.parent.mkdir(exist_ok=True)
    classes = [{"name": "Mitosis: Normal", "color": -256}, {"name": "Mine", "color": -5}]
    path.write_text(json.dumps({"pathClasses": classes}))
    world.write((100, 100))
    after = json.loads(path.read_bytes())["pathClasses"]
    assert after[:2] == classes
    if world.kind != "sidecar":
        assert {item["name"] for item in after} >= {"Mitosis", "Mitosis: Normal"} or len(after) == 2


def test_nested_annotations_keep_their_parents(world: World) -> None:
    for entry in world.project.images:
        nest(world, entry)
    parents = {item.id: item.parent_id for item in world.people()}
    assert [parent is not None for parent in parents.values()].count(True) == 1
    world.write((100, 100), (505, 505))
    world.write((110, 100), (500, 500))
    assert {item.id: item.parent_id for item in world.people()} == parents
    new = [item for item in world.objects() if item.kind is ObjectKind.DETECTION]
    assert {item.parent_id for item in new} == {None}


def nest(world: World, entry) -> None:
    """The first annotation goes below the second."""
    if world.kind == "sidecar":
        inner, outer, other = (to_feature(item) for item in people())
        assert outer
        outer["properties"]["childObjects"] = [inner]
        path = world.project.ours / "ground-truth" / f"{entry.stem}.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [outer, other]}))
        return
    path = entry.data_dir / "data.qpdata"
    document = read_document(path.read_bytes())
    root, (inner_node, outer_node, _) = document.root, document.root.children
    contents = root.token.parts[0].annotations or []
    contents.remove(inner_node.token)
    contents[root.count_at] = Block((2).to_bytes(4, "big"))
    inside = outer_node.token.parts[0].annotations or []
    inside[outer_node.count_at : outer_node.count_at + 1] = [Block((1).to_bytes(4, "big")), inner_node.token]
    path.write_bytes(serialise(document.contents))


def test_every_object_of_ours_is_in_a_manifest_and_carries_the_run_s_number(world: World) -> None:
    world.write((100, 100), (300, 300))
    world.write((100, 100), (300, 300))
    new = [item for item in world.objects() if item.kind is ObjectKind.DETECTION]
    assert {item.measurements["midog run"] for item in new} == {2.0}
    last = load_manifests(world.project)[-1].image(world.image.entry_id)
    assert last
    assert {item.id for item in new} == {written.id for written in last.objects}
