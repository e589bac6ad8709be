"""The process that runs QuPath cannot hang, flood or half-write: pieces that need no QuPath."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPoint, Point, Polygon, box

from midog_qupath.errors import StoreError
from midog_qupath.project.model import ObjectKind, PathObject, Plane, Roi, RoiKind
from midog_qupath.project.stores.paquo_guard import restored_on_failure
from midog_qupath.project.stores.paquo_process import KEPT_STDERR, WorkerProcess
from midog_qupath.project.stores.paquo_wire import decode_roi, encode

FLOOD = """
import sys
sys.stdin.readline()
while True:
    sys.stderr.write("Reached end of file unexpectedly...\\n" * 1000)
"""
TALK = """
import json, sys
for line in sys.stdin:
    if json.loads(line).get("die"):
        sys.exit("out of memory")
    for reply in {"rows": [1]}, {"rows": [2]}, {"done": True}:
        print(json.dumps(reply), flush=True)
"""


def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, limit_s: float) -> WorkerProcess:
    (tmp_path / "stand_in.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return WorkerProcess("stand_in", tmp_path / "project.qpproj", limit_s)


def test_a_flood_without_an_answer_ends_at_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = worker(tmp_path, monkeypatch, FLOOD, limit_s=1)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"within 1 s for image 'a'"):
        list(process.ask({}, "image 'a'"))
    assert time.monotonic() - started < 5
    assert not process.alive
    assert len(process._stderr) <= KEPT_STDERR


def test_answers_come_in_order_and_a_death_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = worker(tmp_path, monkeypatch, TALK, limit_s=20)
    assert list(process.ask({}, "image 'a'")) == [{"rows": [1]}, {"rows": [2]}]
    with pytest.raises(StoreError, match=r"image 'b': out of memory"):
        list(process.ask({"die": True}, "image 'b'"))
    with pytest.raises(StoreError, match="image 'c'"):
        list(process.ask({}, "image 'c'"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_save_that_fails_midway_leaves_the_files_as_they_were(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "data.qpdata").write_bytes(b"before")
    (tmp_path / "summary.json").write_bytes(b"{}")
    with pytest.raises(error), restored_on_failure(tmp_path, "a"):  # noqa: PT012
        (tmp_path / "data.qpdata").rename(tmp_path / "data.qpdata.bkp")
        (tmp_path / "data.qpdata").write_bytes(b"hal")
        (tmp_path / "server.json").write_bytes(b"new")
        raise error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "data.qpdata": b"before",
        "summary.json": b"{}",
    }


def test_a_first_save_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    with pytest.raises(OSError), restored_on_failure(folder, "a"):  # noqa: PT012
        folder.mkdir()
        (folder / "data.qpdata").write_bytes(b"hal")
        raise OSError
    assert not folder.exists()


def test_an_ellipse_fills_its_box_and_two_points_make_no_crash() -> None:
    ellipse = decode_roi(["EllipseROI", [-1, 0, 0], [10, 20, 40, 30]])
    assert ellipse.kind is RoiKind.ELLIPSE
    assert ellipse.geometry.bounds == pytest.approx((10, 20, 50, 50))
    assert ellipse.geometry.area == pytest.approx(3.14159 * 20 * 15, rel=0.002)
    line = decode_roi(["PolygonROI", [0, 2, 3], [{"x": 1, "y": 2}, {"x": 3, "y": 4}]])
    assert (line.geometry.area, line.plane) == (0, Plane(0, 2, 3))


@given(
    x=st.floats(0, 1e5, width=32),
    y=st.floats(0, 1e5, width=32),
    shape=st.sampled_from(["polygon", "hole", "point", "points"]),
)
@settings(deadline=None, max_examples=30)
def test_a_shape_travels_without_loss(x: float, y: float, shape: str) -> None:
    square = box(x, y, x + 10, y + 10)
    geometry = {
        "polygon": square,
        "hole": Polygon(square.exterior, [box(x + 2, y + 2, x + 4, y + 4).exterior]),
        "point": Point(x, y),
        "points": MultiPoint([(x, y), (x + 1, y)]),
    }[shape]
    new = PathObject(uuid4(), ObjectKind.DETECTION, Roi(RoiKind.POLYGON, geometry, Plane(-1, 1, 2)))
    java_class, plane, sent = encode(new, ObjectKind.DETECTION)["roi"]
    if not isinstance(sent, str):
        sent = [{"x": px, "y": py} for px, py in zip(*sent, strict=True)]
    back = decode_roi([java_class, plane, sent])
    assert back.plane == Plane(-1, 1, 2)
    assert back.geometry.equals(geometry)
