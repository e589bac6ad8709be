"""Ours and theirs: what a re-run replaces, what it leaves alone and where it stays away."""

from __future__ import annotations

from dataclasses import replace
from math import hypot
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import translate
from shapely.geometry import Polygon, box
from write_objects import AREA, ENTRY, circle, drawn, manifest, ours, run_info

from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Roi, RoiKind
from midog_qupath.project.ours import Standing, classify, deleted, wiped_runs
from midog_qupath.project.plan import plan
from midog_qupath.units import MicronsPerPixel

MPP = MicronsPerPixel(0.25)
RADIUS_PX = 30.0
LATER = run_info("20250202-120000-beef", 2)


def moved(item: PathObject, dx: float) -> PathObject:
    assert item.roi
    return replace(item, roi=replace(item.roi, geometry=translate(item.roi.geometry, dx)))


def as_qupath_stores(item: PathObject) -> PathObject:
    """The ring turned around, begun elsewhere, in 32 bits; measurements in 32 bits."""
    assert item.roi
    ring = np.roll(np.array(item.roi.geometry.exterior.coords)[:-1][::-1], 3, axis=0).astype(np.float32)
    return replace(
        item,
        roi=Roi(RoiKind.POLYGON, Polygon(ring.astype(float))),
        measurements={name: float(np.float32(value)) for name, value in item.measurements.items()},
        metadata={},
    )


def plan_for(objects: list[PathObject], manifests: list, new: list[PathObject], **options: object):
    settings_ = {"entry_id": ENTRY, "area": AREA, "mpp": MPP, "keep": False, **options}
    return plan(objects, manifests, new, **settings_)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda item: item, Standing.UNTOUCHED),
        (as_qupath_stores, Standing.UNTOUCHED),
        (lambda item: moved(item, 0.015), Standing.UNTOUCHED),
        (lambda item: replace(item, locked=True, parent_id=UUID(int=9)), Standing.UNTOUCHED),
        (lambda item: replace(item, path_class=PathClass("Mitosis:Normal")), Standing.UNTOUCHED),
        (lambda item: replace(item, measurements={}), Standing.UNTOUCHED),
        (lambda item: replace(item, measurements={"Reviewed": 0.0}), Standing.UNTOUCHED),
        (lambda item: replace(item, path_class=PathClass("Mitosis: Atypical")), Standing.TOUCHED),
        (lambda item: replace(item, path_class=None), Standing.TOUCHED),
        (lambda item: replace(item, name="sure"), Standing.TOUCHED),
        (lambda item: replace(item, measurements={"Reviewed": 1.0}), Standing.TOUCHED),
        (lambda item: replace(item, measurements={"Reviewed": float("nan")}), Standing.TOUCHED),
        (lambda item: moved(item, 1.0), Standing.TOUCHED),
        (lambda item: replace(item, roi=None), Standing.TOUCHED),
        (lambda item: replace(item, kind=ObjectKind.ANNOTATION), Standing.THEIRS),
        (lambda item: replace(item, id=UUID(int=5), measurements={}), Standing.THEIRS),
    ],
)
def test_touched_is_class_shape_name_or_reviewed(change, expected: Standing) -> None:
    written = ours(100, 100)
    assert classify([change(written)], [manifest(written)]) == [expected]


def test_a_moved_corner_is_a_changed_shape() -> None:
    written = ours(100, 100)
    ring = list(written.roi.geometry.exterior.coords)
    ring[5] = (ring[5][0] + 0.5, ring[5][1])
    changed = replace(written, roi=Roi(RoiKind.POLYGON, Polygon(ring)))
    assert classify([changed], [manifest(written)]) == [Standing.TOUCHED]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda item: item, Standing.UNTOUCHED),
        (lambda item: replace(item, path_class=PathClass("Non-mitosis")), Standing.TOUCHED),
        (lambda item: replace(item, name="sure"), Standing.TOUCHED),
        (lambda item: moved(item, 1.0), Standing.TOUCHED),
        (lambda item: replace(item, metadata={}), Standing.UNPROVEN),
        (lambda item: replace(item, metadata={"midog_qupath.written": "Mitosis|1 2 x"}), Standing.UNPROVEN),
    ],
)
def test_a_project_without_our_folder_goes_by_the_mark_and_the_metadata(change, expected: Standing) -> None:
    assert classify([change(ours(100, 100))], []) == [expected]


def test_unproven_objects_stay_and_nothing_is_written_beside_them() -> None:
    unproven = replace(ours(100, 100), metadata={})
    planned = plan_for([unproven], [], [ours(110, 100, LATER)])
    assert (planned.remove, planned.add, planned.near_ours) == (frozenset(), (), 1)


def test_a_rerun_replaces_untouched_objects_inside_its_area_only() -> None:
    inside, outside = ours(100, 100, index=0), ours(700, 100, index=1)
    new = ours(300, 300, LATER)
    planned = plan_for([inside, outside], [manifest(inside, outside)], [new], area=box(0, 0, 500, 500))
    assert planned.remove == {inside.id}
    assert planned.add == (new,)


def test_touched_objects_stay_and_nothing_new_comes_within_7_5_microns() -> None:
    written = ours(100, 100)
    touched = replace(written, path_class=PathClass("Non-mitosis"))
    at, beyond = ours(130, 100, LATER, 0), ours(130.1, 100, LATER, 1)
    planned = plan_for([touched], [manifest(written)], [at, beyond])
    assert planned.remove == frozenset()
    assert planned.add == (beyond,)
    assert (planned.touched, planned.near_ours, planned.near_deleted) == (1, 1, 0)


def test_nothing_is_written_again_where_a_person_deleted() -> None:
    gone, left = ours(100, 100, index=0), ours(500, 500, index=1)
    new = [ours(110, 110, LATER, 0), ours(505, 500, LATER, 1)]
    planned = plan_for([left], [manifest(gone, left)], new)
    assert planned.add == (new[1],)
    assert planned.near_deleted == 1
    assert deleted([left], [manifest(gone, left)], ENTRY) == [(100.0, 100.0)]


def test_keep_leaves_ours_and_writes_only_beyond_them() -> None:
    kept = ours(100, 100)
    new = [ours(105, 100, LATER, 0), ours(300, 300, LATER, 1)]
    planned = plan_for([kept], [manifest(kept)], new, keep=True)
    assert planned.remove == frozenset()
    assert planned.add == (new[1],)


def test_people_s_annotations_keep_no_detection_away() -> None:
    new = ours(100, 100)
    planned = plan_for([drawn(circle(100, 100)), drawn(AREA, "Region*", 2)], [], [new])
    assert planned.add == (new,)


def test_an_object_under_ours_or_with_its_id_keeps_ours_in_place() -> None:
    parent, twin = ours(100, 100, index=0), ours(500, 500, index=1)
    child = replace(drawn(circle(100, 100, 3)), parent_id=parent.id)
    copy = replace(drawn(circle(800, 800)), id=twin.id)
    double = ours(900, 900, index=2)
    objects = [parent, child, twin, copy, double, double]
    planned = plan_for(objects, [manifest(parent, twin, double)], [])
    assert planned.remove == frozenset()


def test_what_a_later_run_replaced_was_not_deleted_by_a_person() -> None:
    first, second = ours(100, 100), ours(400, 400, LATER)
    runs = [manifest(first), manifest(second, run=LATER.run, removed=(first.id,))]
    assert deleted([second], runs, ENTRY) == []
    assert deleted([], runs, ENTRY) == [(400.0, 400.0)]


@pytest.mark.parametrize("state", ["planned", "sidecar"])
def test_what_never_stood_in_the_image_was_not_deleted(state: str) -> None:
    one, two = ours(100, 100, index=0), ours(400, 400, index=1)
    assert deleted([], [manifest(one, two, state=state)], ENTRY) == []
    # ... but when one of them stands there, the other did too (imported later, or killed just after).
    assert deleted([two], [manifest(one, two, state=state)], ENTRY) == [(100.0, 100.0)]


def test_an_undone_run_and_one_that_an_older_state_overwrote_delete_nothing() -> None:
    first, second = ours(100, 100), ours(400, 400, LATER)
    later = manifest(second, run=LATER.run, removed=(first.id,))
    assert deleted([first], [manifest(first), later], ENTRY) == []
    assert deleted([], [manifest(first, state="undone", taken_back=(first.id,))], ENTRY) == []
    # ... but what was gone before it was undone, a person had deleted.
    assert deleted([], [manifest(first, second, state="undone", taken_back=(second.id,))], ENTRY) == [
        (100.0, 100.0)
    ]


def test_a_run_of_which_nothing_is_left_is_named() -> None:
    one, two = ours(100, 100, index=0), ours(400, 400, index=1)
    assert wiped_runs([], [manifest(one, two)], ENTRY) == ["20250101-120000-abcd"]
    assert wiped_runs([two], [manifest(one, two)], ENTRY) == []


positions = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=6)
changes = st.sampled_from(["untouched", "touched", "deleted", "unproven"])


@settings(deadline=None, max_examples=60)
@given(old=positions, fates=st.lists(changes, min_size=6, max_size=6), new=positions, keep=st.booleans())
def test_no_plan_harms_a_person_s_work(old, fates, new, keep: bool) -> None:
    written = [ours(x, y, index=index) for index, (x, y) in enumerate(old)]
    change = {
        "untouched": lambda item: item,
        "touched": lambda item: replace(item, name="seen"),
        "unproven": lambda item: replace(item, id=UUID(int=item.id.int ^ 1), metadata={}),
    }
    fated = list(zip(written, fates, strict=False))
    objects = [drawn(circle(x, y), identity=index) for index, (x, y) in enumerate(new)]
    objects += [change[fate](item) for item, fate in fated if fate != "deleted"]
    unproven = {item.id for item, fate in fated if fate == "unproven"}
    record = manifest(*(item for item in written if item.id not in unproven))
    fresh = [ours(x, y, LATER, index) for index, (x, y) in enumerate(new)]
    planned = plan_for(objects, [record], fresh, keep=keep)

    untouched = {item.id for item, fate in fated if fate == "untouched"}
    assert planned.remove == (frozenset() if keep else untouched)
    shunned = [item for item, fate in fated if fate != "untouched" or keep]
    for item in planned.add:
        x, y = item.roi.geometry.envelope.centroid.coords[0]
        for other in shunned:
            ox, oy = other.roi.geometry.envelope.centroid.coords[0]
            assert hypot(x - ox, y - oy) > RADIUS_PX - 0.02
    assert len(planned.add) + planned.near_ours + planned.near_deleted == len(fresh)
