"""Detections into a project: whatever happens, no person's object changes and ours stay recognisable."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from shapely.geometry import box
from write_objects import detection, drawn, next_run

from midog_qupath.errors import SafetyError, StoreError
from midog_qupath.progress import SILENT
from midog_qupath.project import manifest as manifest_module
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.lock import project_lock
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ImageEntry, PathClass, PathObject, Project
from midog_qupath.project.ours import Standing, classify
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.results import ImageResult, RunReport
from midog_qupath.project.run import RunInfo
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.write import write_detections
from midog_qupath.units import MicronsPerPixel

MPP = MicronsPerPixel(0.25)
#: Coordinates that 32 bits hold exactly: what is read equals what was saved.
ROUNDED = box(480, 480, 520, 520)


class HookedStore(NativeStore):
    """The native store; ``hook`` sees every call first, and every image that was written."""

    def __init__(self, project: Project, hook: Callable[[str, Any], None]) -> None:
        super().__init__(project)
        self._hook = hook

    def read(self, entry: ImageEntry) -> list[PathObject]:
        self._hook("read", entry)
        return super().read(entry)

    def fingerprint(self, entry: ImageEntry) -> str:
        self._hook("fingerprint", entry)
        return super().fingerprint(entry)

    def ensure_classes(self, classes: Sequence[PathClass]) -> None:
        self._hook("ensure_classes", classes)
        super().ensure_classes(classes)

    def apply(self, entry: ImageEntry, edit: Edit) -> str:
        self._hook("apply", entry)
        super().apply(entry, edit)
        self._hook("comes out", entry)
        written = super().fingerprint(entry)
        self._hook("applied", entry)
        return written


def data_file(entry: ImageEntry) -> Path:
    return entry.data_dir / "data.qpdata"


def project_of(entry: ImageEntry) -> Project:
    return open_project(entry.data_dir.parents[1])


def objects_of(entry: ImageEntry) -> list[PathObject]:
    return NativeStore(project_of(entry)).read(entry)


def save(entry: ImageEntry, objects: Sequence[PathObject]) -> None:
    """As another program would: the whole file anew."""
    data_file(entry).unlink(missing_ok=True)
    NativeStore(project_of(entry)).create(entry, objects)


def make_project(folder: Path) -> Project:
    """Three images, each with one annotation of a person at (500, 500)."""
    pictures = [folder / f"image-{number}.png" for number in "123"]
    for picture in pictures:
        cv2.imwrite(str(picture), np.full((1000, 1000, 3), 230, np.uint8))
    project = create_project(folder / "project", [NewImage(picture, mpp=MPP) for picture in pictures])
    for index, entry in enumerate(project.images):
        save(entry, [person(index)])
    return project


def person(index: int) -> PathObject:
    return drawn(ROUNDED, identity=index + 1)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


def results(project: Project, *centres: tuple[float, float]) -> list[ImageResult]:
    found = [detection(x, y) for x, y in centres]
    return [ImageResult(entry, found, box(0, 0, 1000, 1000), MPP) for entry in project.images]


def write(project: Project, found: Sequence[ImageResult], **options: Any) -> RunReport:
    run = options.pop("run", None) or next_run(project)
    hook = options.pop("hook", lambda call, argument: None)
    settings = {"keep": False, "sidecar_only": False, "progress": SILENT, **options}
    return write_detections(project, lambda: HookedStore(project, hook), found, run, **settings)


def theirs(entry: ImageEntry, project: Project) -> list[PathObject]:
    found = objects_of(entry)
    standings = classify(found, load_manifests(project))
    return [item for item, whose in zip(found, standings, strict=True) if whose is Standing.THEIRS]


def centres(entry: ImageEntry) -> list[tuple[int, int]]:
    """Where detections stand, sorted."""
    points = [item.roi.geometry.centroid for item in objects_of(entry) if item.measurements]
    return sorted((round(point.x), round(point.y)) for point in points)


def reviewed(project: Project) -> None:
    """A person deletes the detection at (100, 100) and reclassifies the one at (300, 300), everywhere."""
    for entry in project.images:
        kept = []
        for item in objects_of(entry):
            x, y = item.roi.geometry.centroid.coords[0]
            if round(x) == round(y) == 300:
                item = replace(item, path_class=PathClass("Non-mitosis"))
            if round(x) != 100:
                kept.append(item)
        save(entry, kept)


FIRST = ((100, 100), (300, 300), (700, 700))
SECOND = ((110, 100), (310, 300), (710, 700), (500, 500))
EXPECTED = [(300, 300), (500, 500), (710, 700)]


def test_a_run_writes_sidecars_backup_manifest_and_project(project: Project) -> None:
    report = write(project, results(project, *FIRST))
    assert [(image.state, image.added, image.error) for image in report.images] == [("written", 3, None)] * 3
    assert [image.sidecar.name for image in report.images] == [f"image-{n}.geojson" for n in "123"]
    assert all(image.sidecar.is_file() for image in report.images)
    assert (report.backup / "data" / "1" / "data.qpdata").is_file()
    (manifest,) = load_manifests(project)
    assert manifest.finished
    assert {image.state for image in manifest.images} == {"written"}
    for index, entry in enumerate(project.images):
        assert theirs(entry, project) == [person(index)]
    assert not (project.ours / "lock").exists()


def test_a_rerun_replaces_keeps_and_stays_away(project: Project) -> None:
    write(project, results(project, *FIRST))
    reviewed(project)
    report = write(project, results(project, *SECOND))
    assert [centres(entry) for entry in project.images] == [EXPECTED] * 3
    image = report.images[0]
    assert (image.added, image.removed, image.touched) == (2, 1, 1)
    assert (image.near_ours, image.near_deleted) == (1, 1)
    write(project, results(project, *SECOND))
    assert [centres(entry) for entry in project.images] == [EXPECTED] * 3


def test_sidecar_only_leaves_the_project_alone(project: Project) -> None:
    before = [data_file(entry).read_bytes() for entry in project.images]
    report = write(project, results(project, *FIRST), sidecar_only=True)
    assert [data_file(entry).read_bytes() for entry in project.images] == before
    assert (report.backup, report.failed) == (None, ())
    assert {image.state for image in report.images} == {"sidecar"}
    write(project, results(project, *FIRST))
    assert centres(project.images[0]) == sorted(FIRST)


class Cut:
    """Raises ``error`` at the n-th call of a store; counts the calls."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.calls, self._at, self._error = 0, at, error

    def __call__(self, call: str, argument: Any) -> None:
        if call == "comes out" or (call == "applied" and isinstance(self._error, StoreError)):
            # A store may be interrupted there, but what has been written is no failure.
            return
        self.calls += 1
        if self.calls == self._at:
            raise self._error


def test_cut_short_anywhere_and_run_again_it_ends_the_same(project: Project, tmp_path: Path) -> None:
    write(project, results(project, *FIRST))
    reviewed(project)
    at, finished = 0, False
    while not finished:
        at += 1
        again = copy_of(project, tmp_path / str(at))
        run = next_run(again)
        finished = not is_cut(again, run, at)
        for index, entry in enumerate(again.images):
            assert theirs(entry, again) == [person(index)]
        assert len(list((again.ours / "detections" / run.run).iterdir())) == 3
        # Again as the same run or as another one: the same objects stand there in the end.
        write(again, results(again, *SECOND), run=run if at % 2 else None)
        assert [centres(entry) for entry in again.images] == [EXPECTED] * 3, f"cut at call {at}"
    assert at > 20


def copy_of(project: Project, folder: Path) -> Project:
    shutil.copytree(project.folder, folder)
    return open_project(folder)


def is_cut(project: Project, run: RunInfo, at: int) -> bool:
    try:
        write(project, results(project, *SECOND), run=run, hook=Cut(at, KeyboardInterrupt()))
    except KeyboardInterrupt:
        return True
    return False


def test_an_image_that_fails_is_reported_and_the_others_go_on(project: Project, tmp_path: Path) -> None:
    for at in range(1, 18):
        again = copy_of(project, tmp_path / str(at))
        report = write(again, results(again, *FIRST), hook=Cut(at, StoreError("Broken.", "Mend it.")))
        failed = [image.entry_id for image in report.failed]
        assert len(failed) in (1, 3)
        if "not put back" in str(report.failed[0].error):
            # Written, and nobody can tell whether it was saved by a person since.
            failed = []
        for index, entry in enumerate(again.images):
            assert theirs(entry, again) == [person(index)]
            assert centres(entry) == ([] if entry.entry_id in failed else sorted(FIRST)), f"call {at}"
        assert "import_detections.groovy" in str(report.failed[0].error)
        assert len(list(report.failed[0].sidecar.parent.iterdir())) == 3


@pytest.mark.parametrize("point", ["apply", "applied"])
def test_a_process_killed_while_writing_leaves_ours_recognisable(project: Project, point: str) -> None:
    script = (
        "import os, sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from test_write_detections import *\n"
        "project = open_project(pathlib.Path(sys.argv[2]))\n"
        "def hook(call, entry):\n"
        "    if call == sys.argv[3] and entry.entry_id == '2': os._exit(9)\n"
        "write(project, results(project, *FIRST), hook=hook)\n"
    )
    arguments = [sys.executable, "-c", script, str(Path(__file__).parent), str(project.folder), point]
    assert subprocess.run(arguments, check=False).returncode == 9
    for index, entry in enumerate(project.images):
        assert theirs(entry, project) == [person(index)]
    write(project, results(project, *FIRST))
    assert [centres(entry) for entry in project.images] == [sorted(FIRST)] * 3


def damage(entry: ImageEntry) -> None:
    save(entry, [replace(item, name="changed by the writer") for item in objects_of(entry)])


def test_an_image_that_comes_out_wrong_is_put_back(project: Project) -> None:
    before = data_file(project.images[1]).read_bytes()

    def hook(call: str, entry: Any) -> None:
        if call == "comes out" and entry.entry_id == "2":
            damage(entry)

    report = write(project, results(project, *FIRST), hook=hook)
    assert [image.entry_id for image in report.failed] == ["2"]
    assert "put back as it was" in str(report.failed[0].error)
    assert data_file(project.images[1]).read_bytes() == before
    assert centres(project.images[2]) == sorted(FIRST)


def test_an_image_saved_by_a_person_meanwhile_is_never_put_back(project: Project) -> None:
    state = SimpleNamespace(reads=0)

    def hook(call: str, entry: Any) -> None:
        if call == "comes out":
            damage(entry)
        if call == "read" and data_file(entry).exists():
            state.reads += 1
            if state.reads == 5:
                # The read that checks image 1 after it was written: somebody saves the image then.
                save(entry, [*objects_of(entry), drawn(box(40, 40, 60, 60), identity=99)])

    report = write(project, results(project, *FIRST), hook=hook)
    assert "not put back" in str(report.images[0].error)
    assert objects_of(project.images[0])[-1] == drawn(box(40, 40, 60, 60), identity=99)


def test_an_image_saved_by_a_person_right_after_the_write_is_never_put_back(project: Project) -> None:
    """QuPath had it open and saves what it has: that is not ours to overrule."""

    def hook(call: str, entry: Any) -> None:
        if call == "applied" and entry.entry_id == "1":
            save(entry, [person(0), drawn(box(40, 40, 60, 60), identity=99)])

    report = write(project, results(project, *FIRST), hook=hook)
    assert "not put back" in str(report.images[0].error)
    assert objects_of(project.images[0])[-1] == drawn(box(40, 40, 60, 60), identity=99)
    assert [image.entry_id for image in report.failed] == ["1"]


def test_an_image_saved_between_backup_and_write_is_left_alone(project: Project) -> None:
    def hook(call: str, argument: Any) -> None:
        if call == "ensure_classes":
            save(project.images[1], [drawn(box(40, 40, 60, 60), identity=99)])

    report = write(project, results(project, *FIRST), hook=hook)
    assert [image.entry_id for image in report.failed] == ["2"]
    assert "saved by another program" in str(report.failed[0].error)
    assert objects_of(project.images[1]) == [drawn(box(40, 40, 60, 60), identity=99)]


def test_an_image_without_readable_objects_does_not_stop_the_others(project: Project) -> None:
    def hook(call: str, argument: Any) -> None:
        if call == "read" and argument.entry_id == "1":
            raise StoreError("data.qpdata is truncated.", "Restore it.")

    report = write(project, results(project, *FIRST), hook=hook)
    assert [image.entry_id for image in report.failed] == ["1"]
    assert not (report.backup / "data" / "1").exists()


@pytest.mark.parametrize("at", range(1, 8))
def test_a_full_disk_stops_the_run_with_every_image_whole(
    project: Project, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, state = manifest_module.write_bytes, SimpleNamespace(calls=0)

    def full(path: Path, data: bytes) -> None:
        state.calls += 1
        if state.calls >= at:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data)

    with monkeypatch.context() as disk:
        disk.setattr(manifest_module, "write_bytes", full)
        with pytest.raises(SafetyError, match="Free some space"):
            write(project, results(project, *FIRST))
    for index, entry in enumerate(project.images):
        assert theirs(entry, project) == [person(index)]
        assert centres(entry) in ([], sorted(FIRST))
    write(project, results(project, *FIRST))
    assert [centres(entry) for entry in project.images] == [sorted(FIRST)] * 3


def test_a_second_writer_changes_nothing(project: Project) -> None:
    run = next_run(project)
    with project_lock(project), pytest.raises(SafetyError, match="writing into this project"):
        write(project, results(project, *FIRST), run=run)
    assert not (project.ours / "detections").exists()


def test_a_folder_that_cannot_be_written_is_said_in_one_line(project: Project) -> None:
    project.ours.write_text("a file where our folder should be")
    with pytest.raises(SafetyError, match="write access"):
        write(project, results(project, *FIRST))
    assert centres(project.images[0]) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that hold for the user")
def test_a_read_only_folder_is_said_in_one_line(project: Project) -> None:
    project.folder.chmod(0o555)
    with pytest.raises(SafetyError, match="write access"):
        write(project, results(project, *FIRST))
    project.folder.chmod(0o755)


class Spoken:
    """A progress that keeps the warnings."""

    task = staticmethod(SILENT.task)

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def test_deleting_everything_is_taken_at_its_word_and_said(project: Project) -> None:
    write(project, results(project, *FIRST))
    for entry in project.images:
        save(entry, theirs(entry, project))
    spoken = Spoken()
    report = write(project, results(project, *FIRST), progress=spoken)
    assert [image.near_deleted for image in report.images] == [3] * 3
    assert sum("were deleted" in warning for warning in spoken.warnings) == 3
