"""A run that a script took into QuPath counts as being there, even when a person deleted all of it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from test_table import frame
from write_worlds import MPP, World, make_world

from midog_qupath.errors import StoreError
from midog_qupath.progress import SILENT
from midog_qupath.project.geojson import read_features
from midog_qupath.project.imported import PROPERTY, with_imports
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ObjectKind
from midog_qupath.project.ours import deleted_positions
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.serialise import serialise
from midog_qupath.project.qpdata.stream import Block, Instance, new_text
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.table import write_run_table
from midog_qupath.project.undo import undo_run


@pytest.fixture(params=["native", pytest.param("paquo", marks=pytest.mark.qupath)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return make_world(tmp_path, request.param)


def ours(world: World) -> set:
    return {item.id for item in world.objects() if item.kind is ObjectKind.DETECTION}


def edit(world: World, remove: frozenset, add: tuple = ()) -> None:
    store = NativeStore(world.project)
    store.apply(world.image, Edit(remove, add, store.fingerprint(world.image)))


def note(world: World, value: str) -> None:
    """Set the property as QuPath saves it: in the map of the image's properties."""
    path = world.image.data_dir / "data.qpdata"
    document = read_document(path.read_bytes())
    (found,) = [one for one in document.contents if isinstance(one, Instance) and "Map" in one.desc.name]
    found.parts[0].annotations = [Block(struct.pack(">ii", 16, 1)), new_text(PROPERTY), new_text(value)]
    path.write_bytes(serialise(document.contents))


def take_in(world: World) -> None:
    """All runs one after another, as import_detections.groovy does: each replaces what stood there."""
    notes = []
    for run in load_manifests(world.project):
        record = run.image(world.image.entry_id)
        assert record
        replaced = ours(world)
        edit(world, frozenset(replaced), tuple(read_features(world.project.ours / record.sidecar)))
        notes.append(" ".join([run.run, *map(str, replaced)]))
    note(world, ",".join(notes))


def look_alikes(world: World) -> list[tuple[float, float]]:
    """Where export says that a person deleted a detection."""
    with world.store() as store:
        runs = with_imports(load_manifests(world.project), world.image, store)
    return sorted(deleted_positions(world.objects(), runs, world.image.entry_id, MPP))


def test_what_a_person_deleted_to_the_last_one_teaches_and_never_comes_back(world: World) -> None:
    world.write((100, 100), (300, 300), sidecar_only=True)
    assert look_alikes(world) == []
    take_in(world)
    assert world.places() == [(100, 100), (300, 300)]
    assert look_alikes(world) == []

    edit(world, frozenset(ours(world)))
    assert look_alikes(world) == [(100, 100), (300, 300)]
    report = world.write((110, 100), (600, 600))
    assert report.images[0].near_deleted == 1
    assert world.places() == [(600, 600)]
    assert look_alikes(world) == [(100, 100), (300, 300)]


def test_what_a_later_import_replaced_was_not_deleted_though_no_run_planned_it(world: World) -> None:
    for place in ((100, 100), (110, 100), (120, 100)):
        world.write(place, sidecar_only=True)
    take_in(world)
    assert world.places() == [(120, 100)]
    assert look_alikes(world) == []
    edit(world, frozenset(ours(world)))
    assert look_alikes(world) == [(120, 100)]


def test_an_import_that_was_taken_back_in_qupath_deleted_nothing(world: World) -> None:
    world.write((100, 100))
    before = [item for item in world.objects() if item.id in ours(world)]
    world.write((110, 100), sidecar_only=True)
    take_in(world)
    edit(world, frozenset(ours(world)), tuple(before))
    assert look_alikes(world) == []


def test_undo_brings_back_what_the_import_replaced(world: World) -> None:
    for place in ((100, 100), (110, 100)):
        world.write(place, sidecar_only=True)
    take_in(world)
    report = undo_run(world.project, world.store, None, SILENT)
    assert report.images[0].put_back == 1
    assert world.places() == [(100, 100)]
    assert look_alikes(world) == []


def test_the_table_says_what_became_of_a_run_that_was_taken_in(world: World) -> None:
    for place in ((100, 100), (300, 300)):
        world.write(place, sidecar_only=True)
    take_in(world)
    edit(world, frozenset(ours(world)))
    states = []
    for run in load_manifests(world.project):
        with world.store() as store:
            write_run_table(world.project, run.run, store)
        states.append(list(frame(world.project, run.run)["state"]))
    assert states == [["replaced", "beside"], ["deleted", "beside"]]


def test_a_note_that_is_not_understood_is_refused(world: World) -> None:
    world.write((100, 100), sidecar_only=True)
    note(world, f"{load_manifests(world.project)[0].run} not-an-id")
    with pytest.raises(StoreError, match="imported runs"):
        look_alikes(world)
