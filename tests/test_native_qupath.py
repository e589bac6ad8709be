"""QuPath's own classes read what the native store wrote, and save it again without loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
from native_images import ATYPICAL, NORMAL, detection, drawings, ids, made_project, real_images

from midog_qupath.project.model import PathObject
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore

pytestmark = [pytest.mark.qupath]


def assert_equal(ours: Sequence[PathObject], theirs: Sequence[PathObject]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        # QuPath shows the project's colours, whatever the file says.
        plain, other_plain = (replace(x, roi=None, measurements={}, path_class=None) for x in (one, other))
        assert plain == other_plain
        assert one.class_name == other.class_name
        assert one.measurements == pytest.approx(other.measurements, rel=1e-6)
        assert (one.roi.kind, one.roi.plane) == (other.roi.kind, other.roi.plane)
        assert shapely.hausdorff_distance(one.roi.geometry, other.roi.geometry) < 0.02
        assert one.roi.geometry.area == pytest.approx(other.roi.geometry.area, rel=1e-3)


@pytest.mark.realdata
def test_qupath_reads_a_file_that_we_edited(data_dir: Path, tmp_path: Path) -> None:
    project = real_images(data_dir, tmp_path, [36])
    entry = next(entry for entry in project.images if entry.entry_id == "36")
    store = NativeStore(project)
    store.ensure_classes([ATYPICAL, NORMAL])
    new = tuple(detection(index, (ATYPICAL, NORMAL)[index % 2]) for index in range(200))
    with PaquoStore(project) as qupath:
        store.apply(entry, Edit(frozenset(), new, store.fingerprint(entry)))
        assert_equal(store.read(entry), qupath.read(entry))
        store.apply(entry, Edit(ids(new[50:]), (), store.fingerprint(entry)))
        assert_equal(store.read(entry), qupath.read(entry))


@pytest.mark.realdata
def test_qupath_reads_labels_that_came_in_beside_those_of_people(data_dir: Path, tmp_path: Path) -> None:
    project = real_images(data_dir, tmp_path, [36])
    entry = next(entry for entry in project.images if entry.entry_id == "36")
    store, labels = NativeStore(project), tuple(drawings()[:-1])
    before = store.read(entry)
    store.ensure_classes([thing.path_class for thing in labels if thing.path_class])
    store.apply(entry, Edit(frozenset(), (), store.fingerprint(entry), labels))
    with PaquoStore(project) as qupath:
        found = qupath.read(entry)
        assert_equal(store.read(entry), found)
        assert [thing.id for thing in found] == [thing.id for thing in (*before, *labels)]


def test_qupath_reads_a_file_that_is_wholly_ours_and_saves_it(tmp_path: Path) -> None:
    project = made_project(tmp_path)
    entry, store = project.images[0], NativeStore(project)
    store.create(entry, drawings())
    before = store.read(entry)
    with PaquoStore(project) as qupath:
        assert_equal(before, qupath.read(entry))
        new = detection(7)
        qupath.apply(entry, Edit(frozenset(), (new,), store.fingerprint(entry)))
        after = store.read(entry)
        assert after[-1].id == new.id
        assert_equal(before, after[:-1])
        store.apply(entry, Edit(ids([new]), (detection(8),), store.fingerprint(entry)))
        assert_equal(store.read(entry), qupath.read(entry))


def test_labels_come_in_through_qupath_in_the_shapes_that_they_have(tmp_path: Path) -> None:
    project = made_project(tmp_path)
    entry, store, labels = project.images[0], NativeStore(project), tuple(drawings()[:-1])
    store.ensure_classes([thing.path_class for thing in labels if thing.path_class])
    with PaquoStore(project) as qupath:
        qupath.apply(entry, Edit(frozenset(), (), "", labels))
        assert_equal(labels, qupath.read(entry))
    assert_equal(labels, store.read(entry))
