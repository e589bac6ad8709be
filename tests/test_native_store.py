"""The native store reads what QuPath wrote, writes what QuPath reads, and loses nothing of anybody's."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import shapely
from shapely.geometry import MultiPoint, MultiPolygon, Point, Polygon, box
from store_objects import ATYPICAL, detection, detections, files, ids, require_equal, require_same

from midog_qupath.errors import QpdataError, StoreError
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.geojson import read_features
from midog_qupath.project.model import (
    ImageEntry,
    ObjectKind,
    PathClass,
    PathObject,
    Plane,
    Project,
    Roi,
    RoiKind,
)
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore

NONE: frozenset[Any] = frozenset()


@pytest.fixture
def project(data_dir: Path, tmp_path: Path) -> Project:
    """The real project without its pixels, writable."""
    return _copy(data_dir / "breast-mitosis", tmp_path / "p")


def _copy(source: Path, target: Path) -> Project:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("images", "geojson", "*.jpg"))
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755)  # the data may be read-only
    return open_project(target)


def _most_objects(project: Project) -> ImageEntry:
    """An image with annotations of several classes; one that was labelled in regions."""
    return next(image for image in project.images if image.metadata["labelled"] == "regions")


# ---- reading -------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_all_objects_equal_the_geojson_that_qupath_exported(data_dir: Path) -> None:
    project = open_project(data_dir / "breast-mitosis")
    store, count = NativeStore(project), 0
    for image in project.images:
        found = store.read(image)
        require_same(found, read_features(data_dir / "breast-mitosis" / "geojson" / f"{image.stem}.geojson"))
        count += len(found)
    assert (len(project.images), count) == (70, 3200)


@pytest.mark.realdata
def test_cells_points_and_ellipses_equal_what_qupath_exported(data_dir: Path) -> None:
    folder = data_dir / "qupath-projects" / "coscia-0.6.0"
    project = open_project(folder)
    found = NativeStore(project).read(project.images[0])
    # The export is flat: all objects without their parents.
    require_same(found, read_features(folder / "Single_cells.geojson"))
    kinds = Counter((thing.kind.value, thing.roi.kind.value) for thing in found if thing.roi)
    assert kinds == {
        ("cell", "polygon"): 121,
        ("annotation", "ellipse"): 6,
        ("annotation", "points"): 3,
        ("annotation", "rectangle"): 1,
    }
    seen: set[object] = {None}
    for thing in found:
        assert thing.parent_id in seen
        seen.add(thing.id)
    assert all(thing.parent_id for thing in found if thing.kind is ObjectKind.CELL)
    # The other export is of another state of the image: none of its objects is in the file any more.
    assert ids(read_features(folder / "TD_01_verysmall_mIF.geojson")).isdisjoint(ids(found))


@pytest.mark.realdata
def test_a_file_of_qupath_02_is_read_and_agrees_with_its_summary(data_dir: Path, tmp_path: Path) -> None:
    project = _copy(data_dir / "qupath-projects" / "stardist-0.2.0-m12", tmp_path / "p")
    store = NativeStore(project)
    for image, count in zip(project.images, (19, 32), strict=True):
        found = store.read(image)
        assert {(thing.kind, thing.id) for thing in found} == {(ObjectKind.ANNOTATION, None)}
        assert len(found) == count
        assert all(thing.roi and thing.roi.geometry.area > 0 for thing in found)
    before = files(project.folder)
    with pytest.raises(StoreError, match="no ids"):
        store.apply(image, Edit(NONE, detections(range(2)), store.fingerprint(image)))
    assert files(project.folder) == before


@pytest.mark.realdata
def test_fewer_objects_than_the_summary_says_are_refused(project: Project) -> None:
    image = _most_objects(project)
    path = image.data_dir / "summary.json"
    summary = json.loads(path.read_text("utf-8"))
    summary["hierarchy"]["nObjects"] += 1
    path.write_text(json.dumps(summary), "utf-8")
    before = files(project.folder)
    store = NativeStore(project)
    with pytest.raises(StoreError, match=r"nObjects is \d+ in data.qpdata and \d+ in summary.json"):
        store.read(image)
    with pytest.raises(StoreError, match="nObjects"):
        store.apply(image, Edit(NONE, detections([1]), store.fingerprint(image)))
    assert files(project.folder) == before
    assert NativeStore(project, check=False).read(image)
    path.unlink()
    assert store.read(image)


@pytest.mark.realdata
def test_a_damaged_file_names_its_image_and_is_not_an_empty_one(project: Project) -> None:
    image = _most_objects(project)
    data = image.data_dir / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-200])
    with pytest.raises(QpdataError, match=image.name):
        NativeStore(project).read(image)
    (image.data_dir / "summary.json").write_text("{", "utf-8")
    with pytest.raises(StoreError):
        NativeStore(project).read(image)


# ---- writing into files of QuPath ----------------------------------------------------------------


@pytest.mark.realdata
def test_500_come_in_and_100_go_out_and_all_else_is_as_it_was(project: Project) -> None:
    image = _most_objects(project)
    store = NativeStore(project)
    others = {name: data for name, data in files(project.folder).items() if not _of(name, image)}
    first, original = store.read(image), (image.data_dir / "data.qpdata").read_bytes()
    new = detections(range(500))
    store.apply(image, Edit(NONE, new, store.fingerprint(image)))
    gone = ids(new[::5])
    store.apply(image, Edit(gone, (), store.fingerprint(image)))
    left = store.read(image)
    assert [thing for thing in left if thing.id not in ids(new)] == first
    require_same([thing for thing in left if thing.id in ids(new)], [x for x in new if x.id not in gone])
    assert all(thing.parent_id is None for thing in left if thing.id in ids(new))
    summary = json.loads((image.data_dir / "summary.json").read_text("utf-8"))["hierarchy"]
    assert summary["nObjects"] == len(left) + 1 == len(first) + 401
    assert summary["detectionClassificationCounts"] == {"Mitosis: Atypical": 400}
    # What all went is the file as QuPath wrote it, to the last byte.
    store.apply(image, Edit(ids(new) - gone, (), store.fingerprint(image)))
    assert (image.data_dir / "data.qpdata").read_bytes() == original
    assert {name: data for name, data in files(project.folder).items() if not _of(name, image)} == others


def _of(name: str, image: ImageEntry) -> bool:
    return Path(name).parts[:2] == ("data", image.entry_id)


@pytest.mark.realdata
def test_every_real_file_takes_a_detection_and_gives_it_back(project: Project) -> None:
    store = NativeStore(project)
    for image in project.images[::10]:
        before = (image.data_dir / "data.qpdata").read_bytes()
        store.apply(image, Edit(NONE, detections([7]), store.fingerprint(image)))
        require_equal(next(x for x in store.read(image) if x.id in ids(detections([7]))), detection(7))
        store.apply(image, Edit(ids(detections([7])), (), store.fingerprint(image)))
        assert (image.data_dir / "data.qpdata").read_bytes() == before


@pytest.mark.realdata
def test_cells_stay_with_their_parents_when_ours_come_in(data_dir: Path, tmp_path: Path) -> None:
    project = _copy(data_dir / "qupath-projects" / "coscia-0.6.0", tmp_path / "p")
    (image,), store = project.images, NativeStore(project)
    before = store.read(image)
    store.apply(image, Edit(NONE, detections(range(50)), store.fingerprint(image)))
    after = store.read(image)
    assert [thing for thing in after if thing.id not in ids(detections(range(50)))] == before
    assert len(after) == len(before) + 50


@pytest.mark.realdata
def test_edits_that_would_harm_are_refused_and_change_nothing(project: Project) -> None:
    image = _most_objects(project)
    store = NativeStore(project)
    store.apply(image, Edit(NONE, detections(range(3)), store.fingerprint(image)))
    before, seen = files(project.folder), store.fingerprint(image)
    theirs = next(thing.id for thing in store.read(image) if thing.kind is ObjectKind.ANNOTATION)
    assert theirs is not None
    twice = replace(detection(9), id=detection(0).id)
    for edit, why in (
        (Edit(frozenset({theirs}), (), seen), "not a detection of ours"),
        (Edit(frozenset({uuid4()}), (), seen), "exactly once"),
        (Edit(NONE, (twice,), seen), "same id"),
        (Edit(NONE, (detection(9), detection(9)), seen), "same id"),
        (Edit(NONE, (replace(detection(9), id=None),), seen), "without an id"),
        (Edit(NONE, (detection(9, roi=None),), seen), "shape"),
        (Edit(NONE, (detection(9, roi=Roi(RoiKind.POLYGON, Polygon())),), seen), "empty"),
        (Edit(NONE, (detection(9, kind=ObjectKind.CELL),), seen), "cannot be written"),
        (Edit(NONE, detections([9]), "0" * 64), "changed by somebody else"),
        (Edit(NONE, detections([9]), ""), "changed by somebody else"),
    ):
        with pytest.raises(StoreError, match=why):
            store.apply(image, edit)
        assert files(project.folder) == before
    # One may come in place of another with the same id.
    store.apply(image, Edit(ids(detections([0])), (twice,), seen))


@pytest.mark.realdata
def test_a_detection_with_children_is_not_taken_out(data_dir: Path, tmp_path: Path) -> None:
    """QuPath can put objects below a detection; they may be somebody's."""
    from midog_qupath.project.qpdata.document import read_document
    from midog_qupath.project.qpdata.serialise import serialise
    from midog_qupath.project.qpdata.stream import Block

    project = _copy(data_dir / "breast-mitosis", tmp_path / "p")
    image, store = _most_objects(project), NativeStore(project)
    store.apply(image, Edit(NONE, detections(range(2)), store.fingerprint(image)))
    path = image.data_dir / "data.qpdata"
    document = read_document(path.read_bytes())
    # The last child of the root goes below the one before it.
    root, (above, below) = document.root, document.root.children[-2:]
    root_contents = root.token.parts[0].annotations or []
    root_contents.remove(below.token)
    root_contents[root.count_at] = Block((len(root.children) - 1).to_bytes(4, "big"))
    contents = above.token.parts[0].annotations or []
    contents[above.count_at : above.count_at + 1] = [Block((1).to_bytes(4, "big")), below.token]
    path.write_bytes(serialise(document.contents))
    parents = {thing.id: thing.parent_id for thing in store.read(image)}
    assert parents[detection(1).id] == detection(0).id
    before = files(project.folder)
    with pytest.raises(StoreError, match="not a detection of ours"):
        store.apply(image, Edit(ids(detections([0])), (), store.fingerprint(image)))
    assert files(project.folder) == before
    store.apply(image, Edit(ids(detections([1])), (), store.fingerprint(image)))
    assert detection(0).id in ids(store.read(image))


# ---- disks that are full, folders that are closed ------------------------------------------------


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _fails_once(monkeypatch: pytest.MonkeyPatch, call: str, after: int) -> None:
    """Let one call of a function find the disk full."""
    module: Any = {"os": os, "tempfile": tempfile}[call.partition(".")[0]]
    name = call.partition(".")[2]
    real, calls = getattr(module, name), iter(range(1000))

    def wrapped(*args: Any, **options: Any) -> Any:
        return _full() if next(calls) == after else real(*args, **options)

    monkeypatch.setattr(module, name, wrapped)


@pytest.mark.realdata
@pytest.mark.parametrize("call", ["os.replace", "os.fsync", "tempfile.mkstemp"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_leaves_data_and_summary_as_they_were(
    project: Project, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    image, store = _most_objects(project), NativeStore(project)
    before, seen = files(project.folder), store.fingerprint(image)
    _fails_once(monkeypatch, call, after)
    with pytest.raises(StoreError, match="No space left"):
        store.apply(image, Edit(NONE, detections([1]), seen))
    assert files(project.folder) == before


@pytest.mark.realdata
def test_an_image_whose_summary_alone_could_not_be_written_is_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its objects are in; QuPath writes a new summary with the next save."""
    image, store = _most_objects(project), NativeStore(project)
    count = len(store.read(image))
    _fails_once(monkeypatch, "os.replace", 2)
    store.apply(image, Edit(NONE, detections([1]), store.fingerprint(image)))
    assert len(store.read(image)) == count + 1
    left = {path.name for path in image.data_dir.iterdir()}
    assert left == {"data.qpdata", "server.json"}


@pytest.mark.realdata
def test_a_folder_that_is_read_only_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    image, store = _most_objects(project), NativeStore(project)
    before, seen = files(project.folder), store.fingerprint(image)

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", closed)
    with pytest.raises(StoreError, match="Permission denied"):
        store.apply(image, Edit(NONE, detections([1]), seen))
    monkeypatch.undo()
    assert files(project.folder) == before


@pytest.mark.realdata
def test_ctrl_c_in_the_middle_of_a_save_leaves_all_as_it_was(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, store = _most_objects(project), NativeStore(project)
    before, real = files(project.folder), os.replace

    def interrupted(source: Any, target: Any) -> None:
        if str(target).endswith("data.qpdata"):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.apply(image, Edit(NONE, detections([1]), store.fingerprint(image)))
    monkeypatch.undo()
    assert files(project.folder) == before


# ---- new data files ------------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A project of one image that nobody has opened yet."""
    import cv2
    import numpy as np

    picture = tmp_path / "bild ä.png"
    ok, raw = cv2.imencode(".png", np.full((64, 96, 3), 230, np.uint8))
    assert ok
    picture.write_bytes(raw.tobytes())
    create_project(tmp_path / "new", [NewImage(picture, mpp=0.25)])
    project = open_project(tmp_path / "new")
    shutil.rmtree(project.images[0].data_dir, ignore_errors=True)
    return project


def _every_kind() -> list[PathObject]:
    hole = Polygon(box(10, 10, 40, 40).exterior, [box(20, 20, 30, 30).exterior])
    shapes = {
        RoiKind.RECTANGLE: box(1.5, 2.5, 30, 40),
        RoiKind.ELLIPSE: Point(30, 30).buffer(10.0, quad_segs=18),
        RoiKind.POLYGON: Polygon([(0, 0), (10.25, 0), (5, 8.5)]),
        RoiKind.POINTS: MultiPoint([(1, 2), (3.5, 4.5)]),
        RoiKind.GEOMETRY: hole,
    }
    made = [
        PathObject(uuid4(), ObjectKind.ANNOTATION, Roi(kind, shape), PathClass("Mitosis", -65536))
        for kind, shape in shapes.items()
    ]
    two = Roi(RoiKind.GEOMETRY, MultiPolygon([box(0, 0, 5, 5), box(8, 8, 12, 12)]), Plane(-1, 2, 1))
    return [
        *made,
        PathObject(
            uuid4(),
            ObjectKind.ANNOTATION,
            two,
            ATYPICAL,
            name="Größe µm² 🔬 日本",
            measurements={"Fläche": 1 / 3, "none": float("nan")},
            metadata={"wer": "ßé"},
            locked=True,
            color=0xFF00FF00 - 2**32,
        ),
        PathObject(uuid4(), ObjectKind.ANNOTATION, Roi(RoiKind.POLYGON, box(0, 0, 9, 9)), None),
        detection(1),
    ]


def test_a_new_data_file_reads_back_as_it_was_given(empty: Project) -> None:
    (image,), store, objects = empty.images, NativeStore(empty), _every_kind()
    assert (store.read(image), store.fingerprint(image)) == ([], "")
    store.create(image, objects)
    found = store.read(image)
    require_same(found, objects)
    for ours, given in zip(found, objects, strict=True):
        assert ours.roi is not None
        assert given.roi is not None
        assert ours.roi.kind is given.roi.kind
        assert (ours.path_class, ours.color) == (given.path_class, given.color)
        assert ours.roi.geometry.area == pytest.approx(given.roi.geometry.area, rel=2e-3)
    assert len(shapely.get_rings(found[4].roi.geometry)) == 2  # type: ignore[union-attr]
    summary = json.loads((image.data_dir / "summary.json").read_text("utf-8"))
    assert summary["hierarchy"]["nObjects"] == len(objects) + 1
    server = json.loads((image.data_dir / "server.json").read_text("utf-8"))
    assert server == json.loads(empty.path.read_text("utf-8"))["images"][0]["serverBuilder"]
    with pytest.raises(StoreError, match="has a data file already"):
        store.create(image, objects)
    # Ours go into what we made as into what QuPath made.
    store.apply(image, Edit(ids([detection(1)]), detections(range(2, 30)), store.fingerprint(image)))
    require_same(store.read(image), [*objects[:-1], *detections(range(2, 30))])


def test_the_first_detections_of_an_image_make_its_data_file(empty: Project) -> None:
    (image,), store = empty.images, NativeStore(empty)
    with pytest.raises(StoreError, match="no objects to remove"):
        store.apply(image, Edit(ids([detection(0)]), (), ""))
    with pytest.raises(StoreError, match="changed by somebody else"):
        store.apply(image, Edit(NONE, detections([0]), "0" * 64))
    assert not image.data_dir.exists()
    store.apply(image, Edit(NONE, detections(range(3)), ""))
    require_same(store.read(image), detections(range(3)))


def test_a_full_disk_leaves_no_part_of_a_new_data_file(
    empty: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,), store = empty.images, NativeStore(empty)
    before = files(empty.folder)
    for call in ("os.replace", "os.fsync", "tempfile.mkstemp"):
        with monkeypatch.context() as patch:
            patch.setattr(call, _full)
            with pytest.raises(StoreError, match="No space left"):
                store.create(image, detections([1]))
        assert files(empty.folder) == before
        assert not image.data_dir.exists()


def test_an_image_that_left_the_project_is_not_written(empty: Project) -> None:
    (image,) = empty.images
    empty.path.write_text(json.dumps({**json.loads(empty.path.read_text("utf-8")), "images": []}), "utf-8")
    with pytest.raises(StoreError, match="no longer in"):
        NativeStore(empty).create(image, detections([1]))
    assert not image.data_dir.exists()


def test_a_save_that_qupath_did_not_end_is_left_for_qupath(empty: Project) -> None:
    (image,), store = empty.images, NativeStore(empty)
    store.create(image, detections([1]))
    (image.data_dir / "data.qpdata.bkp").write_bytes(b"all that is left")
    assert store.read(image)
    before = files(empty.folder)
    with pytest.raises(StoreError, match="interrupted"):
        store.apply(image, Edit(NONE, detections([2]), store.fingerprint(image)))
    (image.data_dir / "data.qpdata").unlink()
    with pytest.raises(StoreError, match="interrupted"):
        store.read(image)
    assert before["data/1/data.qpdata.bkp"] == (image.data_dir / "data.qpdata.bkp").read_bytes()
