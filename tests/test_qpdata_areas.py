"""Areas as QuPath 0.2 stored them: outlines as rings, those of holes among them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import shapely
from native_images import drawn, made_project, new_bytes
from shapely.geometry import Polygon, box

from midog_qupath.errors import QpdataError
from midog_qupath.project.model import Plane, Project, RoiKind
from midog_qupath.project.qpdata.build import Builder
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.objects import objects
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import (
    SERIALIZABLE,
    Array,
    ClassDesc,
    ClassPart,
    Field,
    Instance,
    Node,
    new_text,
)
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore

Ring = list[tuple[float, float]]
#: A square with a hole in which an island lies, and another square apart: holes wind the other way.
RINGS: list[Ring] = [
    [(10, 10), (10, 90), (90, 90), (90, 10)],
    [(20, 20), (80, 20), (80, 80), (20, 80)],
    [(40, 40), (40, 60), (60, 60), (60, 40)],
    [(100.5, 10), (100.5, 30), (120, 30), (120, 10)],
]
SHAPE = shapely.union_all(
    [Polygon(box(10, 10, 90, 90).exterior, [box(20, 20, 80, 80).exterior]), box(40, 40, 60, 60),
     box(100.5, 10, 120, 30)]
)  # fmt: skip


def with_area(data: bytes, rings: list[Ring]) -> bytes:
    """A data file whose first object has this area, by the fields that QuPath 0.2 gives its proxy."""
    document = read_document(data)
    thing = document.root.children[0]
    contents = thing.token.parts[0].annotations or []
    contents[contents.index(thing.tail[2])] = proxy(Builder(document), rings)
    return serialise(document.contents)


def proxy(builder: Builder, rings: list[Ring]) -> Instance:
    signature, name = new_text("[[F"), new_text("Ljava/lang/String;")
    stats = new_text("Lqupath/lib/roi/ClosedShapeStatistics;")
    desc = ClassDesc("qupath.lib.roi.AreaROI$SerializationProxy", 1, SERIALIZABLE)
    desc.fields = [
        *(Field("I", axis) for axis in (b"c", b"t", b"z")),
        Field("L", b"name", name),
        Field("L", b"stats", stats),
        Field("[", b"x", signature),
        Field("[", b"y", signature),
    ]
    outer, inner = ClassDesc("[[F", 0, SERIALIZABLE), builder.desc("[F")
    x, y = ([[point[axis] for point in ring] for ring in rings] for axis in (0, 1))
    plane = [struct.pack(">i", value) for value in (-1, 0, 2)]
    part = ClassPart(desc, [*plane, None, None, rows(outer, inner, x), rows(outer, inner, y)])
    return Instance(desc, [part])


def rows(outer: ClassDesc, inner: ClassDesc, values: list[list[float]]) -> Array:
    arrays: list[Node] = [Array(inner, len(row), np.array(row, ">f4").tobytes()) for row in values]
    return Array(outer, len(arrays), items=arrays)


def test_holes_and_islands_of_an_old_area_are_where_they_were_drawn() -> None:
    data = with_area(new_bytes([drawn(RoiKind.RECTANGLE, box(0, 0, 5, 5))]), RINGS)
    (thing,) = objects(read_document(data))
    assert thing.roi.kind is RoiKind.GEOMETRY
    assert thing.roi.plane == Plane(-1, 2, 0)
    assert thing.roi.geometry.equals(SHAPE)


@pytest.mark.parametrize("rings", [[], [[(1, 1), (2, 2)]]])
def test_an_old_area_that_encloses_nothing_is_empty(rings: list[Ring]) -> None:
    data = with_area(new_bytes([drawn(RoiKind.RECTANGLE, box(0, 0, 5, 5))]), rings)
    (thing,) = objects(read_document(data))
    assert thing.roi.geometry.is_empty


def test_an_old_area_with_a_coordinate_that_is_none_is_refused() -> None:
    rings = [[(1.0, 1.0), (float("nan"), 2.0), (3.0, 3.0)]]
    data = with_area(new_bytes([drawn(RoiKind.RECTANGLE, box(0, 0, 5, 5))]), rings)
    with pytest.raises(QpdataError, match="not finite"):
        objects(read_document(data))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An image with such an area."""
    made = made_project(tmp_path)
    NativeStore(made).create(made.images[0], [drawn(RoiKind.RECTANGLE, box(0, 0, 5, 5))])
    path = made.images[0].data_dir / "data.qpdata"
    path.write_bytes(with_area(path.read_bytes(), RINGS))
    return made


@pytest.mark.qupath
def test_qupath_sees_the_same_area_and_still_does_after_a_detection_came_in(project: Project) -> None:
    entry, store = project.images[0], NativeStore(project)
    (mine,) = store.read(entry)
    new = drawn(RoiKind.RECTANGLE, box(0, 0, 5, 5))
    store.apply(entry, Edit(frozenset(), (), store.fingerprint(entry), labels=(new,)))
    with PaquoStore(project) as qupath:
        found = {thing.id: thing.roi for thing in qupath.read(entry)}
    assert found.keys() == {mine.id, new.id}
    theirs = found[mine.id]
    assert (theirs.kind, theirs.plane) == (mine.roi.kind, mine.roi.plane)
    assert shapely.symmetric_difference(theirs.geometry, mine.roi.geometry).area < 0.01
