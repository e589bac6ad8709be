"""Blocks of pixels: hand-computed boxes, and no object in two blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import shapely
from dataset_rows import IMAGE, OBJECT
from hypothesis import given, settings
from hypothesis import strategies as st

from midog_qupath.dataset.areas import merge_overlapping, plan_areas, split_box, working_downsample
from midog_qupath.dataset.format import Extent, ImageRow, ObjectRow
from midog_qupath.units import MicronsPerPixel


def an_image(extent: Extent, width: int = 10_000, height: int = 8_000, mpp: float = 0.25) -> ImageRow:
    return replace(IMAGE, extent=extent, width=width, height=height, mpp=MicronsPerPixel(mpp))


def with_regions(region: shapely.Polygon, width: int = 10_000, height: int = 8_000) -> ImageRow:
    return replace(an_image("regions", width, height), region_polygons=region.wkb)


def at(x: float, y: float, outline: shapely.Polygon | None = None) -> ObjectRow:
    return replace(OBJECT, x=x, y=y, polygon=outline.wkb if outline else None)


def boxes(image: ImageRow, *objects: ObjectRow) -> list[tuple[float, float, int, int]]:
    return [(area.x0, area.y0, area.width, area.height) for area in plan_areas(image, objects)]


@pytest.mark.parametrize(
    ("mpp", "downsample"), [(0.25, 1.0), (0.2435, 1.0), (0.2565, 1.0), (0.5, 0.5), (0.23, 0.25 / 0.23)]
)
def test_within_three_percent_of_the_working_resolution_pixels_stay(mpp: float, downsample: float) -> None:
    assert working_downsample(MicronsPerPixel(mpp)) == pytest.approx(downsample)


def test_a_whole_image_is_one_block_or_equal_blocks_of_at_most_4096() -> None:
    assert boxes(an_image("whole", 1360, 1024)) == [(0, 0, 1360, 1024)]
    assert boxes(an_image("whole", 7215, 5412)) == [
        (0, 0, 3608, 2706),
        (3608, 0, 3607, 2706),
        (0, 2706, 3608, 2706),
        (3608, 2706, 3607, 2706),
    ]


def test_a_coarse_image_is_stored_at_the_working_resolution() -> None:
    assert boxes(an_image("whole", 1000, 600, mpp=0.5)) == [(0, 0, 2000, 1200)]


def test_a_mosaic_is_stored_whole() -> None:
    assert boxes(replace(an_image("objects", 2048, 1024), cell_px=128), at(64, 64)) == [(0, 0, 2048, 1024)]


def test_regions_get_a_margin_that_ends_at_the_border() -> None:
    image = with_regions(shapely.box(100.5, 10, 300, 200))
    assert boxes(image, at(150, 50)) == [(68, 0, 264, 232)]


def test_objects_outside_the_regions_are_stored_too() -> None:
    image = with_regions(shapely.box(100, 100, 300, 200))
    assert boxes(image, at(150, 150), at(5000, 5000)) == [(68, 68, 264, 164), (4872, 4872, 256, 256)]


def test_squares_around_objects_are_merged_where_they_overlap_and_cut_at_the_border() -> None:
    image = an_image("objects")
    assert boxes(image, at(1000, 1000), at(1200, 1100), at(0, 8000)) == [
        (872, 872, 456, 356),
        (0, 7872, 128, 128),
    ]


def test_a_large_outline_is_kept_whole() -> None:
    outline = shapely.box(1000, 1000, 1400, 1010)
    assert boxes(an_image("objects"), at(1200, 1005, outline)) == [(968, 877, 464, 256)]


def test_an_object_off_the_image_takes_no_pixels() -> None:
    assert boxes(an_image("objects"), at(-500, 20)) == []


def test_blocks_of_a_diagonal_region_that_it_does_not_touch_are_left_out() -> None:
    stripe = shapely.LineString([(0, 0), (12_000, 12_000)]).buffer(20)
    image = with_regions(stripe, 12_288, 12_288)
    assert len(boxes(image)) == 7  # three on the diagonal, four that touch its corners through the margin


PLACES = st.lists(st.tuples(st.integers(0, 9_999), st.integers(0, 7_999)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=50)
@given(PLACES, st.sampled_from([0.25, 0.5, 0.33, 0.2]))
def test_every_object_lies_in_exactly_one_block(places: list[tuple[int, int]], mpp: float) -> None:
    areas = plan_areas(an_image("objects", mpp=mpp), [at(x + 0.3, y + 0.3) for x, y in places])
    for x, y in places:
        inside = [
            area
            for area in areas
            if 0 <= (x + 0.3 - area.x0) / area.downsample < area.width
            and 0 <= (y + 0.3 - area.y0) / area.downsample < area.height
        ]
        assert len(inside) <= 1
        # The last stored pixel of a resampled block ends up to one pixel before the image does.
        if mpp == 0.25 or (x < 9_990 and y < 7_990):
            assert inside


def test_boxes_that_overlap_only_once_merged_are_merged_too() -> None:
    corner = [
        shapely.box(0, 0, 10, 2),
        shapely.box(0, 0, 2, 10),
        shapely.box(7, 7, 9, 9),
        shapely.box(20, 0, 21, 1),
    ]
    assert [box.bounds for box in merge_overlapping(corner)] == [(0, 0, 10, 10), (20, 0, 21, 1)]


def test_a_box_is_cut_into_equal_parts() -> None:
    assert split_box((5, 0, 15, 4), 4) == [(5, 0, 8, 4), (8, 0, 12, 4), (12, 0, 15, 4)]
