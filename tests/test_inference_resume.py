"""Interrupted runs: nothing is done twice, and the result is that of a run that was not interrupted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from inference_standin import painted, painted_project, save_untrained, standin_bundle

from midog_qupath import files
from midog_qupath.inference import resume
from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.detect import Tiling
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.inference.speed import Speed
from midog_qupath.progress import SILENT
from midog_qupath.project.geojson import read_features
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore

FIGURES = [(60 + 110 * i, 60 + 90 * j) for i in range(6) for j in range(4)]


class Stopped(BaseException):
    pass


@pytest.fixture
def project(tmp_path):
    pixels = painted(720, 420, FIGURES)
    return painted_project(tmp_path / "p", {"a.png": pixels, "b.png": pixels})


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(Tiling, "of_batch", staticmethod(lambda batch: Tiling(core=128, together=1)))


def annotate(project, bundle=None):
    return annotate_project(
        project,
        lambda: NativeStore(project),
        bundle or standin_bundle(),
        project.ours / "model.safetensors",
        AnnotateOptions(speed=Speed(workers=0, batch=1)),
        SILENT,
    )


def stop_after(bundle, windows):
    seen = []
    forward = bundle.network.forward

    def counted(images):
        if len(seen) == windows:
            raise Stopped
        seen.append(1)
        return forward(images)

    bundle.network.forward = counted
    return seen


def found(report, name):
    return [
        (o.class_name, o.roi.geometry.wkt, o.measurements)
        for o in read_features(report.sidecars / f"{name}.geojson")
    ]


@pytest.mark.parametrize(
    "windows",
    # Before anything is kept, in an image, and between two; one window, and in the second image.
    [0, 7, 24, pytest.param(1, marks=pytest.mark.long), pytest.param(40, marks=pytest.mark.long)],
)
def test_a_continued_run_gives_the_same_in_the_same_order_and_does_nothing_twice(
    project, small_windows, windows, tmp_path
):
    copy = painted_project(tmp_path / "c", {n: painted(720, 420, FIGURES) for n in ("a.png", "b.png")})
    whole = annotate(copy)
    bundle = standin_bundle()
    stop_after(bundle, windows)
    with pytest.raises(Stopped):
        annotate(project, bundle)
    again = standin_bundle()
    seen = stop_after(again, 10_000)
    report = annotate(project, again)
    # 6 x 4 windows in each image.
    assert len(seen) == 48 - windows
    for name in ("a", "b"):
        assert found(report, name) == found(whole, name)
        assert len(found(report, name)) == len(FIGURES)
    assert not (project.ours / "unfinished").exists() or not any((project.ours / "unfinished").iterdir())


def test_a_changed_image_and_another_model_start_from_the_beginning(project, small_windows):
    bundle = standin_bundle()
    stop_after(bundle, 30)
    with pytest.raises(Stopped):
        annotate(project, bundle)
    path = project.folder / "images" / "a.png"
    os.utime(path, (1, 1))
    again = standin_bundle()
    seen = stop_after(again, 30)
    with pytest.raises(Stopped):
        annotate(project, again)
    assert len(seen) == 30, "image a was searched again, image b went on"
    other = standin_bundle(threshold=0.6)
    seen = stop_after(other, 10_000)
    annotate_project(
        project,
        lambda: NativeStore(project),
        other,
        project.ours / "model.safetensors",
        AnnotateOptions(threshold=0.6, speed=Speed(workers=0, batch=1)),
        SILENT,
    )
    assert len(seen) == 48


def test_a_line_that_a_crash_cut_short_is_not_counted(project, small_windows):
    bundle = standin_bundle()
    stop_after(bundle, 30)
    with pytest.raises(Stopped):
        annotate(project, bundle)
    for log in (project.ours / "unfinished").glob("*/*.log"):
        log.write_bytes(log.read_bytes() + b'{"done": 47, "fou')
    report = annotate(project)
    assert len(found(report, "a")) == len(found(report, "b")) == len(FIGURES)


def test_a_disk_too_full_for_the_log_costs_the_log_and_not_the_run(project, small_windows, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume, "files", SimpleNamespace(write_bytes=full, write_json=files.write_json))
    report = annotate(project)
    assert len(found(report, "a")) == len(found(report, "b")) == len(FIGURES)


def test_skip_existing_leaves_searched_images_alone(project):
    options = AnnotateOptions(images=("a*",))
    args = (project, lambda: NativeStore(project), standin_bundle(), project.ours / "m")
    annotate_project(*args, options, SILENT)
    report = annotate_project(*args, AnnotateOptions(skip_existing=True), SILENT)
    assert [job.entry.name for job in report.jobs] == ["b.png"]
    before = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    nothing = annotate_project(*args, AnnotateOptions(skip_existing=True), SILENT)
    assert (nothing.jobs, nothing.failed, nothing.as_json()["images"]) == ((), {}, 0)
    assert before == {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, marks=pytest.mark.long),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_killed_command_goes_on_and_its_project_stays_whole(tmp_path, number):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("tests in the background are started deaf to Ctrl-C, and so is what they start")
    images = {f"{n}.png": painted(700, 500, [(100, 100), (400, 300)]) for n in "abcdefgh"}
    project = painted_project(tmp_path / "p", images)
    model = save_untrained(tmp_path / "model.safetensors")
    options = ("--store", "native", "--model", str(model), "--precision", "fp32")
    words = [sys.executable, "-m", "midog_qupath", "annotate", str(project.path), *options]
    before = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(project.ours.glob("detections/*/*.geojson"))) >= 2:
            break
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=30) != 0
    assert {path: path.read_bytes() for path in before} == before
    logs = {path: path.read_bytes() for path in (project.ours / "unfinished").glob("*/*.log")}
    assert len(logs) >= 2
    again = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "Going on where a run" in again.stderr
    opened = open_project(project.path)
    assert len(list(opened.ours.glob("detections/*"))) == 1
    assert len(list(opened.ours.glob("detections/*/*.geojson"))) == len(images)
