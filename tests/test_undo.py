"""Undoing a run: what nobody touched goes, what it replaced comes back, a person's work stays."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inference_standin import Command
from store_objects import require_same
from test_write_detections import Cut, HookedStore
from test_write_safety import dead_pid, lock_of
from write_worlds import World, deleted, make_world, reclassified

import midog_qupath
from midog_qupath.errors import SafetyError, StoreError
from midog_qupath.progress import SILENT
from midog_qupath.project.lock import project_lock
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ObjectKind, PathObject, Roi
from midog_qupath.project.ours import Standing
from midog_qupath.project.undo import UndoReport, run_to_undo, undo_run


@pytest.fixture(params=["native", "sidecar", pytest.param("paquo", marks=pytest.mark.qupath)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return make_world(tmp_path, request.param)


@pytest.fixture
def native(tmp_path: Path) -> World:
    return make_world(tmp_path, "native")


@pytest.fixture(params=["native", pytest.param("paquo", marks=pytest.mark.qupath)])
def inside(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Stores of which a person sees the objects: nobody deletes in a sidecar's own file."""
    return make_world(tmp_path, request.param)


def undo(world: World, run: str | None = None, store: Any = None) -> UndoReport:
    return undo_run(world.project, store or world.store, run, SILENT)


def ours(world: World) -> list[PathObject]:
    """Our detections in every image, without what QuPath may do to a shape by storing it."""
    found = [item for entry in world.project.images for item in world.objects(entry)]
    return sorted((plain(item) for item in found if item.kind is ObjectKind.DETECTION), key=str)


def plain(item: PathObject) -> PathObject:
    assert item.roi
    rounded = item.roi.geometry.envelope.centroid.buffer(1)
    shape = Roi(item.roi.kind, type(rounded)([(round(x), round(y)) for x, y in rounded.exterior.coords]))
    measurements = {name: round(value, 4) for name, value in item.measurements.items()}
    return replace(item, roi=shape, measurements=measurements)


def test_the_first_run_is_taken_out_and_leaves_nothing(world: World) -> None:
    before = world.objects()
    world.write((100, 100), (300, 300))
    report = undo(world)
    assert [(image.removed, image.put_back) for image in report.images] == [(2, 0)] * 2
    require_same(world.objects(), before)
    # As if it had never been: the next run writes there again.
    world.write((100, 100), (300, 300))
    assert world.places() == [(100, 100), (300, 300)]


def test_what_a_run_replaced_comes_back_as_it_was(world: World) -> None:
    world.write((100, 100), (300, 300))
    before = ours(world)
    world.write((110, 100), (600, 600))
    report = undo(world)
    assert [(image.removed, image.put_back) for image in report.images] == [(2, 2)] * 2
    assert ours(world) == before
    assert set(world.standings().values()) == {Standing.UNTOUCHED}
    # What came back is replaced by the next run, and can be undone itself.
    world.write((310, 300))
    undo(world)
    undo(world)
    assert world.places() == []


def test_what_a_person_touched_or_deleted_decides(world: World) -> None:
    people = world.people()
    world.write((100, 100), (300, 300), (700, 700))
    world.write((110, 100), (310, 300), (710, 700))
    world.person(reclassified, (310, 300))
    world.person(deleted, (710, 700))
    report = undo(world)
    image = report.images[0]
    assert (image.removed, image.put_back, image.kept, image.left_out) == (1, 1, 1, 2)
    assert world.places() == [(100, 100), (310, 300)]
    assert world.standings() == {(100, 100): Standing.UNTOUCHED, (310, 300): Standing.TOUCHED}
    require_same(world.people(), people)
    # The person's word outlives the run that it was about.
    world.write((102, 100), (302, 300), (702, 700))
    assert world.places() == [(102, 100), (310, 300)]


def test_where_all_were_deleted_undoing_brings_the_older_ones_back(inside: World) -> None:
    inside.write((100, 100), (300, 300))
    inside.write((110, 100), (310, 300))
    inside.person(deleted, (110, 100), (310, 300))
    undo(inside)
    assert inside.places() == [(100, 100), (300, 300)]


def test_runs_are_undone_newest_first_and_each_once(world: World) -> None:
    first = world.write((100, 100)).run
    second = world.write((110, 100)).run
    with pytest.raises(SafetyError, match=f"Undo run {second} first"):
        undo(world, first)
    assert world.places() == [(110, 100)]
    assert [undo(world).run, undo(world).run] == [second, first]
    for run in (None, first):
        with pytest.raises(SafetyError, match="nothing to do"):
            undo(world, run)
    with pytest.raises(SafetyError, match=f"Give one of: {first}, {second}"):
        undo(world, "another")


def test_runs_of_different_areas_are_undone_in_any_order(world: World) -> None:
    from shapely.geometry import box

    first = world.write((100, 100), area=box(0, 0, 200, 200)).run
    world.write((700, 700), area=box(600, 600, 900, 900))
    undo(world, first)
    assert world.places() == [(700, 700)]


def test_a_person_who_deletes_what_came_back_is_believed(inside: World) -> None:
    inside.write((100, 100))
    inside.write((110, 100))
    undo(inside)
    inside.person(deleted, (100, 100))
    inside.write((105, 100), (300, 300))
    assert inside.places() == [(300, 300)]


def test_without_the_runs_files_the_backup_brings_back_what_was_replaced(native: World) -> None:
    first = native.write((100, 100)).run
    before = ours(native)
    native.write((110, 100))
    shutil.rmtree(native.project.ours / "detections" / first)
    assert undo(native).failed == ()
    assert ours(native) == before


def test_what_is_on_no_record_stops_the_image_and_changes_nothing(native: World) -> None:
    first = native.write((100, 100)).run
    native.write((110, 100))
    before = [(entry.data_dir / "data.qpdata").read_bytes() for entry in native.project.images]
    shutil.rmtree(native.project.ours / "detections" / first)
    shutil.rmtree(native.project.ours / "backups")
    report = undo(native)
    assert len(report.failed) == 2
    assert "in no record" in str(report.failed[0].error)
    assert [(entry.data_dir / "data.qpdata").read_bytes() for entry in native.project.images] == before


def test_cut_short_anywhere_and_run_again_it_ends_the_same(native: World, tmp_path: Path) -> None:
    native.write((100, 100), (300, 300))
    native.write((110, 100), (310, 300), (600, 600))
    native.person(reclassified, (310, 300))
    people, expected = native.people(), [(100, 100), (310, 300)]
    at, finished = 0, False
    while not finished:
        at += 1
        again = native.copy(tmp_path / f"cut-{at}")
        cut = Cut(at, KeyboardInterrupt())
        try:
            undo(again, store=lambda project=again.project, cut=cut: HookedStore(project, cut))
            finished = True
        except KeyboardInterrupt:
            undo(again)
        assert [again.people(entry) for entry in again.project.images] == [people] * 2
        assert [again.places(entry) for entry in again.project.images] == [expected] * 2, f"cut at {at}"
        assert not (again.project.ours / "lock").exists()
    assert at > 10


def test_an_image_that_fails_is_reported_and_the_next_undo_goes_on_with_it(native: World) -> None:
    native.write((100, 100))

    def hook(call: str, argument: Any) -> None:
        if call == "apply" and argument.entry_id == "1":
            raise StoreError("Broken.", "Mend it.")

    report = undo(native, store=lambda: HookedStore(native.project, hook))
    assert [image.name for image in report.failed] == ["image-1.png"]
    assert [native.places(entry) for entry in native.project.images] == [[(100, 100)], []]
    assert run_to_undo(native.project, None).run == report.run
    assert [image.name for image in undo(native).images] == ["image-1.png"]
    assert native.places() == []


def test_a_run_beside_the_project_is_undone_without_touching_it(native: World) -> None:
    native.write((100, 100), sidecar_only=True)
    before = [(entry.data_dir / "data.qpdata").read_bytes() for entry in native.project.images]
    undo(native)
    assert [(entry.data_dir / "data.qpdata").read_bytes() for entry in native.project.images] == before
    assert load_manifests(native.project)[0].undone


def test_from_python_too_the_store_that_wrote_a_run_takes_it_out(tmp_path: Path) -> None:
    beside = make_world(tmp_path, "sidecar")
    beside.write((100, 100))
    report = midog_qupath.undo(beside.project)
    assert (report.store, [image.removed for image in report.images]) == ("sidecar", [1, 1])
    assert beside.places() == []


def test_a_second_writer_is_refused(native: World) -> None:
    native.write((100, 100))
    with project_lock(native.project), pytest.raises(SafetyError, match="writing into this project"):
        undo(native)
    assert native.places() == [(100, 100)]


def test_one_killed_after_its_last_image_leaves_nothing_for_the_next(native: World) -> None:
    native.write((100, 100))
    undo(native)
    lock_of(native.project, dead_pid(), platform.node())
    with pytest.raises(SafetyError, match="nothing to do"):
        undo(native)
    assert not (native.project.ours / "lock").exists()


def test_the_command_tells_what_it_did(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, store = Command(monkeypatch, capsys), ("--store", world.kind)
    code, _, err = command("undo", world.project.path, *store)
    assert (code, err.splitlines()[-1][:7]) == (1, "Error: ")
    first = world.write((100, 100)).run
    second = world.write((110, 100)).run
    code, out, _ = command("undo", world.project.folder, *store, "--json")
    told = json.loads(out)
    assert (code, told["run"], told["store"]) == (0, second, world.kind)
    assert [(image["removed"], image["put_back"]) for image in told["images"]] == [(1, 1)] * 2
    # The sidecar store is taken by itself for what it wrote.
    code, out, _ = command("undo", world.project.path, first, *(store if world.kind == "paquo" else ()))
    assert code == 0
    assert "2 of its detections removed, 0 of earlier runs put back" in out


def test_the_command_says_that_a_run_stood_beside_the_project_only(
    native: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(monkeypatch, capsys)
    native.write((100, 100))
    native.write((110, 100), sidecar_only=True)
    for beside in (True, False):
        code, out, _ = command("undo", native.project.path, "--store", "native")
        assert code == 0
        assert ("GeoJSON files only" in out) is beside
    assert native.places() == []
