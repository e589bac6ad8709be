"""An area is covered by windows, each pixel once, none that is not needed."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon, box

from midog_qupath.inference.grid import Tile
from midog_qupath.inference.plan import Cutting, cut_image

sides = st.integers(1, 900)


def covered(tiles: list[Tile], width: int, height: int) -> np.ndarray:
    count = np.zeros((height, width), int)
    for tile in tiles:
        assert tile.window_width % 32 == tile.window_height % 32 == 0
        assert tile.left + tile.width <= tile.window_width
        assert tile.top + tile.height <= tile.window_height
        assert tile.left % 32 == tile.x % 32 == tile.top % 32 == tile.y % 32 == 0
        count[int(tile.y) : int(tile.y) + tile.height, int(tile.x) : int(tile.x) + tile.width] += 1
    return count


@settings(deadline=None, max_examples=50)
@given(sides, sides, st.integers(1, 12), st.integers(0, 4))
def test_a_whole_image_is_covered_exactly_once(width, height, core, halo):
    tiles = cut_image((width, height), Cutting(32 * core, 32 * halo), None, 1.0, 0)
    assert (covered(tiles, width, height) == 1).all()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(-50, 950), st.floats(-50, 950), st.floats(5, 300)), min_size=1, max_size=5),
    sides,
    sides,
    st.sampled_from([256, 384, 1024]),
    st.sampled_from([1.0, 0.5, 1.7]),
)
def test_every_pixel_of_an_area_is_covered_and_none_twice(discs, width, height, core, downsample):
    area = shapely.union_all([Point(x * downsample, y * downsample).buffer(r) for x, y, r in discs])
    count = covered(cut_image((width, height), Cutting(core, 128), area, downsample, 0), width, height)
    assert count.max() <= 1
    x, y = (np.arange(side) + 0.5 for side in (width, height))
    inside = shapely.contains_xy(
        area, *(axis.ravel() for axis in np.meshgrid(x * downsample, y * downsample))
    )
    assert (count[inside.reshape(height, width)] == 1).all()


def test_little_more_than_the_area_is_computed():
    corners = [(1000, 3000), (9000, 800), (14000, 7000), (6000, 13000), (2500, 9000)]
    blob = shapely.affinity.scale(Polygon(corners), 3, 3, origin=(0, 0))
    tiles = cut_image((48_000, 48_000), Cutting(3072, 128), blob, 1.0, 36)
    assert sum(tile.width * tile.height for tile in tiles) < 1.05 * blob.area
    assert sum(tile.pixels for tile in tiles) < 1.28 * blob.area


def test_windows_start_where_the_tiles_of_the_file_do():
    tiles = cut_image((10_000, 7_000), Cutting(3072, 128, align=256), None, 1.0, 0)
    assert all(tile.x % 256 == 0 and tile.y % 256 == 0 for tile in tiles)


def test_halos_end_a_little_past_the_image():
    (tile,) = cut_image((1000, 500), Cutting(2048, 128), None, 1.0, 0)
    assert (tile.left, tile.top, tile.window_width, tile.window_height) == (64, 64, 1152, 640)
    left, right = cut_image((1000, 500), Cutting(512, 128), None, 1.0, 0)
    assert (left.left, left.window_width) == (64, 64 + 512 + 128)
    assert (right.left, right.window_width) == (128, 128 + 512 + 64)


def test_sizes_the_network_cannot_take_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        Cutting(100, 100)


def test_nothing_is_cut_where_nothing_is_wanted():
    assert cut_image((1000, 1000), Cutting(512, 128), box(2000, 2000, 2100, 2100), 1.0, 0) == []
