"""Lock, backup, manifest, proof: what stands between a run and a person's work."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from shapely.geometry import Polygon, box
from write_objects import ENTRY, circle, detection, drawn, manifest, next_run, ours, run_info

from midog_qupath.errors import SafetyError
from midog_qupath.files import sha256
from midog_qupath.project.backup import back_up, put_back
from midog_qupath.project.lock import _is_qupath, project_lock, qupath_is_running
from midog_qupath.project.manifest import load_manifests, manifest_path, save_manifest
from midog_qupath.project.model import ImageEntry, Project, RoiKind, ServerBuilder
from midog_qupath.project.ours import Standing, deleted_positions, ours_state
from midog_qupath.project.run import as_path_objects
from midog_qupath.project.shapes import same_shape, storable
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.verify import verify_unchanged
from midog_qupath.units import MicronsPerPixel


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two images, the second without objects yet."""
    (tmp_path / "project.qpproj").write_text("{}")
    (tmp_path / "classifiers").mkdir()
    (tmp_path / "classifiers" / "classes.json").write_text("{}")
    (tmp_path / "data" / "1").mkdir(parents=True)
    (tmp_path / "data" / "1" / "data.qpdata").write_bytes(b"objects")
    (tmp_path / "data" / "1" / "summary.json").write_text("{}")
    images = tuple(entry(tmp_path, number) for number in ("1", "2"))
    return Project(tmp_path / "project.qpproj", "v0.6.0", images, ())


def entry(folder: Path, number: str) -> ImageEntry:
    return ImageEntry(
        entry_id=number,
        name=f"image {number}",
        builder=ServerBuilder("uri", None),
        path=None,
        stale=False,
        width=1000,
        height=1000,
        mpp=MicronsPerPixel(0.25),
        metadata={},
        data_dir=folder / "data" / number,
        stem=f"image-{number}",
    )


def lock_of(project: Project, pid: int, host: str) -> Path:
    path = project.ours / "lock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"pid": pid, "host": host, "time": "2025-01-01T00:00:00"}))
    return path


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_writer_is_told_who_is_at_work(project: Project) -> None:
    with project_lock(project):
        with pytest.raises(SafetyError, match=f"Process {os.getpid()} on"), project_lock(project):
            pass
        assert (project.ours / "lock").exists()
    assert not (project.ours / "lock").exists()


def test_the_lock_goes_when_the_work_fails(project: Project) -> None:
    with pytest.raises(KeyboardInterrupt), project_lock(project):
        raise KeyboardInterrupt
    assert not (project.ours / "lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over(project: Project) -> None:
    path = lock_of(project, dead_pid(), platform.node())
    with project_lock(project):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(project.ours.iterdir()) == []


def test_the_lock_of_another_computer_or_of_nobody_stays(project: Project) -> None:
    path = lock_of(project, dead_pid(), "another-computer")
    with pytest.raises(SafetyError, match="another-computer"), project_lock(project):
        pass
    path.write_text("")
    with pytest.raises(SafetyError, match="delete that file"), project_lock(project):
        pass
    assert path.read_text() == ""


def test_the_lock_of_a_process_whose_number_went_to_another_is_taken_over(project: Project) -> None:
    """This process is alive, and far too young to have taken a lock in 2020."""
    path = lock_of(project, os.getpid(), platform.node())
    path.write_text(path.read_text().replace("2025-01-01T00:00:00", "2020-01-01T00:00:00+00:00"))
    with project_lock(project):
        assert json.loads(path.read_text())["time"] > "2025"


def test_on_a_disk_without_hard_links_the_lock_holds_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with project_lock(project), pytest.raises(SafetyError, match="writing"), project_lock(project):
        pass
    assert list(project.ours.iterdir()) == []


def test_a_running_qupath_is_noticed(tmp_path: Path) -> None:
    """A process under QuPath's name, as its launcher has it."""
    program = tmp_path / "QuPath-v0.6.0"
    program.write_text("import time\ntime.sleep(60)\n")
    process = subprocess.Popen(["QuPath-v0.6.0", str(program)], executable=sys.executable)
    try:
        wait_until(qupath_is_running)
    finally:
        process.kill()
        process.wait()


def wait_until(happens: Callable[[], bool]) -> None:
    patience = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < patience
        time.sleep(0.05)


def test_qupath_is_told_from_midog_qupath() -> None:
    assert _is_qupath(["/opt/QuPath/bin/QuPath", ""])
    assert _is_qupath(["java", "-m", "qupath.QuPath"])
    assert not _is_qupath(["/venv/bin/python", "/venv/bin/midog-qupath", "annotate", "/home/QuPath/p.qpproj"])


def test_a_backup_holds_everything_that_may_change_and_can_be_put_back(project: Project) -> None:
    first, second = project.images
    folder = back_up(project, project.images, "20250101-120000")
    assert sorted(json.loads((folder / "backup.json").read_text())["files"]) == [
        "classifiers/classes.json",
        "data/1/data.qpdata",
        "data/1/summary.json",
        "project.qpproj",
    ]
    (first.data_dir / "data.qpdata").write_bytes(b"broken")
    second.data_dir.mkdir()
    (second.data_dir / "data.qpdata").write_bytes(b"only ours")
    put_back(project, first, folder, sha256(first.data_dir / "data.qpdata"))
    put_back(project, second, folder, sha256(second.data_dir / "data.qpdata"))
    assert (first.data_dir / "data.qpdata").read_bytes() == b"objects"
    assert not (second.data_dir / "data.qpdata").exists()
    assert back_up(project, [], "20250101-120000").name == "20250101-120000-2"


def test_what_was_saved_meanwhile_is_not_replaced_by_the_backup(project: Project) -> None:
    folder, (first, _) = back_up(project, project.images, "20250101-120000"), project.images
    (first.data_dir / "data.qpdata").write_bytes(b"a person's")
    with pytest.raises(SafetyError, match="saved by another program"):
        put_back(project, first, folder, sha256(folder / "data" / "1" / "data.qpdata"))
    assert (first.data_dir / "data.qpdata").read_bytes() == b"a person's"


def test_a_damaged_backup_is_not_put_back(project: Project) -> None:
    folder = back_up(project, project.images, "20250101-120000")
    (folder / "data" / "1" / "data.qpdata").write_bytes(b"bit rot")
    with pytest.raises(SafetyError, match="damaged"):
        put_back(project, project.images[0], folder, "")
    assert (project.images[0].data_dir / "data.qpdata").read_bytes() == b"objects"


def test_a_full_disk_stops_the_backup_without_leaving_half_of_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(SafetyError, match=r"No space left .*Free some space"):
        back_up(project, project.images, "20250101-120000")
    assert not (project.ours / "backups" / "20250101-120000").exists()


def test_manifests_come_back_as_they_were_oldest_first(project: Project) -> None:
    late, early = (manifest(ours(100, 100), run=run) for run in ("20250202-120000-ab", "20250101-120000-ab"))
    save_manifest(project, late)
    save_manifest(project, early)
    assert load_manifests(project) == (early, late)
    assert next_run(project).number == 2


@pytest.mark.parametrize("damage", ['{"schema_version": 1', '{"schema_version": 2}', "[]"])
def test_a_damaged_manifest_stops_everything_that_depends_on_it(project: Project, damage: str) -> None:
    save_manifest(project, manifest(ours(100, 100)))
    path = manifest_path(project, "20250101-120000-abcd")
    path.write_text(damage)
    with pytest.raises(SafetyError, match=path.name):
        load_manifests(project)


def test_a_manifest_with_a_broken_outline_is_damaged(project: Project) -> None:
    save_manifest(project, manifest(ours(100, 100)))
    path = manifest_path(project, "20250101-120000-abcd")
    path.write_text(path.read_text().replace("POLYGON", "POLYGONE"))
    with pytest.raises(SafetyError, match=path.name):
        load_manifests(project)


def test_export_learns_what_is_ours_and_what_a_person_deleted(project: Project) -> None:
    left, gone, redrawn = ours(100, 100, index=0), ours(300, 300, index=1), ours(600, 600, index=2)
    save_manifest(project, manifest(left, gone, redrawn))
    person = drawn(circle(605, 600))
    state = ours_state(project)
    assert state(left) is Standing.UNTOUCHED
    assert state(replace(left, name="sure")) is Standing.TOUCHED
    assert state(person) is Standing.THEIRS
    found = deleted_positions([left, person], load_manifests(project), ENTRY, MicronsPerPixel(0.25))
    assert found == [(300.0, 300.0)]


def test_a_detection_becomes_an_object_with_class_and_measurements() -> None:
    (normal,) = as_path_objects([detection(10, 20, atypical=0.49)], run_info(number=3), ENTRY)
    assert normal.class_name == "Mitosis: Normal"
    assert normal.measurements == {"Mitosis probability": 0.9, "Atypical probability": 0.49, "midog run": 3.0}
    some = [detection(10, 20, 0.5), detection(10, 20, None)]
    atypical, plain = as_path_objects(some, run_info(), ENTRY)
    assert atypical.class_name == "Mitosis: Atypical"
    assert plain.class_name == "Mitosis"
    assert "Atypical probability" not in plain.measurements


def test_a_resumed_run_gives_the_same_ids_and_another_run_others() -> None:
    assert ours(10, 20).id == ours(10, 20).id
    assert len({ours(10, 20, index=0).id, ours(10, 20, index=1).id, ours(10, 20, run_info("x")).id}) == 3


def test_outlines_are_made_storable() -> None:
    bow_tie = Polygon([(0, 0), (10, 10), (10, 0), (0, 8)])
    fixed = storable(bow_tie)
    assert fixed.is_valid
    assert fixed.geom_type == "Polygon"
    assert storable(box(0, 0, 0.5, 0.5)) is None
    assert storable(Polygon()) is None
    tiny = replace(detection(10.123, 20, None), polygon=box(0, 0, 0.1, 0.1))
    roi = as_path_objects([tiny], run_info(), ENTRY)[0].roi
    assert (roi.kind, roi.geometry.wkt) == (RoiKind.POINTS, "POINT (10.12 20)")


def test_far_from_the_origin_32_bit_steps_are_no_change() -> None:
    import numpy as np

    shape = circle(300_000.12, 250_000.37)
    stored = Polygon(np.array(shape.exterior.coords).astype(np.float32).astype(float))
    assert same_shape(shape, stored)
    assert not same_shape(shape, circle(300_000.62, 250_000.37))


OLD, NEW = ours(100, 100, index=0), ours(400, 400, index=1)
PERSON = replace(drawn(circle(700, 700)), measurements={"Votes": float("nan")}, metadata={"by": "A"})
EDIT = Edit(remove=frozenset({OLD.id}), add=(NEW,), expected="")


def test_a_right_edit_passes() -> None:
    verify_unchanged([OLD, PERSON], [PERSON, NEW], EDIT)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ([NEW], "is gone"),
        ([PERSON, PERSON, NEW], "not there before"),
        ([PERSON, OLD, NEW], "not there before"),
        ([replace(PERSON, name="x"), NEW], "changed its name"),
        ([replace(PERSON, parent_id=UUID(int=7)), NEW], "changed its parent"),
        ([replace(PERSON, locked=True, metadata={}), NEW], "changed its metadata, lock"),
        ([replace(PERSON, measurements={"Votes": 1.0}), NEW], "changed its measurements"),
        ([replace(PERSON, roi=drawn(circle(700, 700.01)).roi), NEW], "changed its shape"),
        ([PERSON], "stands 0 times"),
        ([PERSON, NEW, NEW], "stands 2 times"),
        ([PERSON, replace(NEW, parent_id=PERSON.id)], "not as it was written"),
        ([PERSON, replace(NEW, measurements={})], "not as it was written"),
        ([PERSON, replace(NEW, path_class=None)], "not as it was written"),
    ],
)
def test_any_other_difference_is_named(after, message: str) -> None:
    with pytest.raises(SafetyError, match=message):
        verify_unchanged([OLD, PERSON], after, EDIT)
