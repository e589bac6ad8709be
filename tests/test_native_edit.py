"""Our detections go into data files and out again; nothing else of the file changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
from native_images import (
    ATYPICAL,
    HOLED,
    NORMAL,
    detection,
    drawings,
    drawn,
    ids,
    made_project,
    new_bytes,
    real_images,
)
from shapely.geometry import Point, box

from midog_qupath.errors import StoreError
from midog_qupath.project.model import ObjectKind, PathClass, Plane, Roi, RoiKind
from midog_qupath.project.qpdata.build import Builder
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.edit import edit
from midog_qupath.project.qpdata.objects import objects
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import Block, ClassDesc
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore


@pytest.mark.realdata
def test_500_detections_of_two_classes_in_and_out_leave_the_file_as_it_was(
    data_dir: Path, tmp_path: Path
) -> None:
    project = real_images(data_dir, tmp_path, [60])
    entry = next(entry for entry in project.images if entry.entry_id == "60")
    store, path = NativeStore(project), entry.data_dir / "data.qpdata"
    before, original = store.read(entry), path.read_bytes()
    new = tuple(detection(n, (ATYPICAL, NORMAL)[n % 2]) for n in range(500))

    store.apply(entry, Edit(frozenset(), new, store.fingerprint(entry)))

    after = store.read(entry)
    assert after[: len(before)] == before
    for given, found in zip(new, after[len(before) :], strict=True):
        assert shapely.hausdorff_distance(given.roi.geometry, found.roi.geometry) < 1e-3
        assert replace(found, roi=None) == replace(given, roi=None)
    hierarchy = json.loads((entry.data_dir / "summary.json").read_bytes())["hierarchy"]
    assert hierarchy["nObjects"] == len(before) + 501
    assert hierarchy["objectTypeCounts"]["Detections"] == 500
    assert hierarchy["detectionClassificationCounts"] == {"Mitosis: Atypical": 250, "Mitosis: Normal": 250}

    store.apply(entry, Edit(ids(new), (), store.fingerprint(entry)))
    assert path.read_bytes() == original
    assert not [item for item in entry.data_dir.iterdir() if item.name.startswith(".")]


def test_classes_of_the_file_are_shared_and_keep_their_colours() -> None:
    """A class that stands in the file is referred to, whatever colour the new objects give it."""
    recoloured = PathClass(ATYPICAL.name, -1)
    data = edit(new_bytes(drawings()), frozenset(), [detection(1, recoloured), detection(2, NORMAL)])
    found = objects(read_document(data))
    assert found[-2].path_class == ATYPICAL
    document = read_document(data)
    ours, theirs = document.root.children[-2], document.root.children[2]
    assert ours.tail[1] is theirs.tail[1]
    normal = document.root.children[-1].tail[1].parts[0].values
    mitosis = document.root.children[1].tail[1]
    assert mitosis in normal, "the parent class is that of the file"


def test_a_detection_inside_an_annotation_is_taken_out_there() -> None:
    """QuPath may have put it there when somebody asked it to resolve the hierarchy."""
    mine = detection(1)
    document = read_document(new_bytes([drawn(RoiKind.RECTANGLE, box(0, 0, 100, 100))]))
    parent = document.root.children[0]
    inner = Builder(document).path_object(mine)
    parent.token.parts[0].annotations[parent.count_at] = Block(b"\x00\x00\x00\x01")
    parent.token.parts[0].annotations.insert(parent.count_at + 1, inner)
    data = serialise(document.contents)
    found = objects(read_document(data))
    assert found[1].parent_id == found[0].id
    assert objects(read_document(edit(data, frozenset({mine.id}), ()))) == found[:1]


def test_a_detection_is_replaced_under_its_own_id() -> None:
    old = detection(1)
    data = new_bytes([*drawings(), old])
    data = edit(data, frozenset({old.id}), [replace(old, path_class=NORMAL)])
    assert objects(read_document(data))[-1].path_class == NORMAL


def test_shapes_with_holes_and_planes_are_kept() -> None:
    roi = Roi(RoiKind.GEOMETRY, HOLED, Plane(-1, 3, 4))
    (found,) = objects(read_document(edit(new_bytes([]), frozenset(), [replace(detection(), roi=roi)])))
    assert (found.roi.kind, found.roi.plane) == (RoiKind.GEOMETRY, Plane(-1, 3, 4))
    assert found.roi.geometry.equals(HOLED)


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"roi": None},
        {"kind": ObjectKind.CELL},
        {"roi": Roi(RoiKind.POLYGON, shapely.Polygon())},
        {"roi": Roi(RoiKind.POINTS, Point(float("nan"), 1))},
    ],
)
def test_what_cannot_be_written_is_refused(change: dict) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        edit(new_bytes([]), frozenset(), [replace(detection(), **change)])


def test_a_file_that_does_not_come_back_is_not_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midog_qupath.project.qpdata.edit.serialise", lambda contents: b"another")
    with pytest.raises(StoreError, match="writing it back unchanged would change it"):
        edit(new_bytes(drawings()), frozenset(), [detection()])


def test_a_file_whose_classes_have_another_layout_is_not_edited() -> None:
    document = read_document(new_bytes([detection()]))
    desc: ClassDesc = document.root.children[0].token.desc
    desc.uid = 2
    with pytest.raises(StoreError, match="PathDetectionObject in a way that is not known"):
        edit(serialise(document.contents), frozenset(), [detection()])


def test_classes_are_added_and_existing_ones_stay(tmp_path: Path) -> None:
    project = made_project(tmp_path)
    path = project.folder / "classifiers" / "classes.json"
    path.parent.mkdir(exist_ok=True)
    old = [{"name": "Mitosis: Atypical", "color": -5}, {"name": "Tumor", "more": 1}]
    path.write_text(json.dumps({"pathClasses": old, "kept": True}), encoding="utf-8")
    NativeStore(project).ensure_classes([ATYPICAL, NORMAL])
    assert json.loads(path.read_bytes()) == {
        "pathClasses": [*old, {"name": NORMAL.name, "color": NORMAL.color}],
        "kept": True,
    }
