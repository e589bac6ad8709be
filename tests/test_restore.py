"""Backups: what they hold, and images put back from them, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from inference_standin import Command
from shapely.geometry import box
from store_objects import require_same
from write_objects import drawn
from write_worlds import World, deleted, make_world, people

from midog_qupath.errors import SafetyError
from midog_qupath.progress import SILENT
from midog_qupath.project.backup import all_backups
from midog_qupath.project.lock import project_lock
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ImageEntry
from midog_qupath.project.ours import deleted_positions
from midog_qupath.project.restore import restore
from midog_qupath.project.stores.paquo_guard import settle
from midog_qupath.project.undo import undo_run

NAMES = ("data.qpdata", "summary.json", "server.json")


@pytest.fixture(params=["native", pytest.param("paquo", marks=pytest.mark.qupath)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return make_world(tmp_path, request.param)


@pytest.fixture
def native(tmp_path: Path) -> World:
    return make_world(tmp_path, "native")


def state(entry: ImageEntry) -> dict[str, bytes]:
    """The files of an image, hidden leftovers too."""
    return (
        {path.name: path.read_bytes() for path in entry.data_dir.iterdir()} if entry.data_dir.exists() else {}
    )


def times(world: World) -> list[str]:
    return [backup.time for backup in all_backups(world.project)]


def test_an_image_comes_back_to_the_last_byte_and_goes_forward_again(world: World) -> None:
    before = [state(entry) for entry in world.project.images]
    world.write((100, 100), (300, 300))
    after = [state(entry) for entry in world.project.images]
    report = restore(world.project, times(world)[0], (), SILENT)
    assert [state(entry) for entry in world.project.images] == before
    assert (report.restored, report.same) == (("image-1.png", "image-2.png"), ())
    assert report.backup
    restore(world.project, report.backup.name, (), SILENT)
    assert [state(entry) for entry in world.project.images] == after
    again = restore(world.project, report.backup.name, (), SILENT)
    assert (again.restored, again.backup) == ((), None)


def test_what_a_person_drew_since_is_in_the_new_backup(world: World) -> None:
    world.write((100, 100))
    drawing = drawn(box(40, 40, 60, 60), identity=99)
    world.save(world.image, [*world.objects(), drawing])
    report = restore(world.project, times(world)[0], (), SILENT)
    assert world.people() == people()
    assert report.backup
    restore(world.project, report.backup.name, (), SILENT)
    require_same([item for item in world.objects() if item.id == drawing.id], [drawing])


def test_detections_that_were_put_back_in_time_were_not_deleted_by_a_person(world: World) -> None:
    world.write((100, 100), (300, 300))
    world.person(deleted, (300, 300))
    world.write((110, 100), (600, 600))
    restore(world.project, times(world)[1], (), SILENT)
    assert world.places() == [(100, 100)]
    runs = load_manifests(world.project)
    assert deleted_positions(world.objects(), runs, world.image.entry_id, 0.25) == [(300.0, 300.0)]
    # The run that is gone keeps nothing away, the person's deletion does.
    world.write((110, 100), (600, 600), (305, 300))
    assert world.places() == [(110, 100), (600, 600)]
    restore(world.project, times(world)[0], (), SILENT)
    world.write((100, 100), (300, 300))
    assert world.places() == [(100, 100), (300, 300)]


def test_undoing_is_undone_by_the_backup_before_it(world: World) -> None:
    run = world.write((100, 100)).run
    undo_run(world.project, world.store, None, SILENT)
    restore(world.project, times(world)[1], (), SILENT)
    assert world.places() == [(100, 100)]
    assert undo_run(world.project, world.store, None, SILENT).run == run
    assert world.places() == []


def test_one_image_of_many(world: World) -> None:
    world.write((100, 100))
    report = restore(world.project, times(world)[0], ["image-2*"], SILENT)
    assert report.restored == ("image-2.png",)
    assert [world.places(entry) for entry in world.project.images] == [[(100, 100)], []]


def test_an_image_that_had_no_objects_has_none_again(native: World) -> None:
    for name in NAMES:
        (native.image.data_dir / name).unlink()
    before = state(native.image)
    native.write((100, 100))
    assert native.places() == [(100, 100)]
    restore(native.project, times(native)[0], (), SILENT)
    assert state(native.image) == before


@pytest.mark.parametrize("name", ["data/1/data.qpdata", "data/2/summary.json", "backup.json"])
def test_a_damaged_backup_changes_nothing(native: World, name: str) -> None:
    native.write((100, 100))
    before = [state(entry) for entry in native.project.images]
    path = all_backups(native.project)[0].folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SafetyError, match="damaged"):
        restore(native.project, times(native)[0], (), SILENT)
    assert [state(entry) for entry in native.project.images] == before
    assert len(times(native)) == 1


def test_a_second_writer_and_unknown_times_are_refused(native: World) -> None:
    native.write((100, 100))
    (time,) = times(native)
    with project_lock(native.project), pytest.raises(SafetyError, match="writing into this project"):
        restore(native.project, time, (), SILENT)
    with pytest.raises(SafetyError, match=f"There are: {time}"):
        restore(native.project, "20200101-000000", (), SILENT)
    assert native.places() == [(100, 100)]


def test_stopped_after_any_step_each_image_is_whole_and_the_next_restore_ends_it(
    native: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As if the machine had stopped: nothing tidies up."""
    before = [state(entry) for entry in native.project.images]
    native.write((100, 100), (300, 300))
    (time,) = times(native)
    at, stopped = 0, True
    while stopped:
        at += 1
        again = native.copy(tmp_path / f"stop-{at}")
        with monkeypatch.context() as disk:
            counted = Stop(at, os.replace)
            disk.setattr(os, "replace", counted)
            disk.setattr(Path, "unlink", lambda path, missing_ok=False: None)
            with contextlib.suppress(KeyboardInterrupt):
                restore(again.project, time, (), SILENT)
            stopped = counted.calls >= at
        (again.project.ours / "lock").unlink(missing_ok=True)
        for entry in again.project.images:
            assert again.places(entry) in ([], [(100, 100), (300, 300)])
            assert again.people(entry) == people()
        restore(again.project, time, (), SILENT)
        assert [state(entry) for entry in again.project.images] == before
    assert at > 6


class Stop:
    """Ends everything at the n-th call."""

    def __init__(self, at: int, real) -> None:
        self.calls, self._at, self._real = 0, at, real

    def __call__(self, source, target) -> None:
        self.calls += 1
        if self.calls >= self._at:
            raise KeyboardInterrupt
        self._real(source, target)


def test_a_save_of_ours_that_was_killed_inside_qupath_is_settled(tmp_path: Path) -> None:
    """QuPath moved the data file aside, wrote half a new one, and was killed with us."""
    old = {"data.qpdata": b"before", "summary.json": b"{}"}
    for name, data in old.items():
        (tmp_path / f"{name}.midog-before").write_bytes(data)
    (tmp_path / "data.qpdata.bkp").write_bytes(b"before")
    (tmp_path / "data.qpdata").write_bytes(b"hal")
    settle(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
    # Another program's interrupted save is not ours to settle.
    (tmp_path / "data.qpdata.bkp").write_bytes(b"somebody's")
    (tmp_path / "data.qpdata.midog-before").write_bytes(b"before")
    settle(tmp_path)
    assert (tmp_path / "data.qpdata.bkp").read_bytes() == b"somebody's"
    assert (tmp_path / "data.qpdata.midog-before").exists()


def test_the_commands_list_and_restore(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(monkeypatch, capsys)
    code, out, _ = command("backups", world.project.path)
    assert (code, out.splitlines()[0][:10]) == (0, "No backups")
    run = world.write((100, 100)).run
    code, out, _ = command("backups", world.project.path, "--json")
    (row,) = json.loads(out)
    assert (code, row["images"], row["why"], row["whole"]) == (0, 2, f"before run {run}", True)
    code, out, _ = command("restore", world.project.path, row["time"], "--json")
    told = json.loads(out)
    assert (code, told["restored"]) == (0, ["image-1.png", "image-2.png"])
    assert world.places() == []
    code, out, _ = command("backups", world.project.path)
    assert f"before restoring {row['time']}" in out.splitlines()[1]
    code, out, _ = command("restore", world.project.path, Path(told["backup"]).name)
    assert "2 images restored, 0 were" in out
    assert world.places() == [(100, 100)]
    code, _, err = command("restore", world.project.path, "then")
    assert (code, err.splitlines()[-1][:27]) == (1, "Error: There is no backup t")
