"""Tiles cover an image exactly once, in windows the network can take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from midog_qupath.inference.grid import cell_tiles, grid_tiles, touching

# width, height, tile, halo -> (cores as x, y, width, height), window
TABLE = [
    ((1024, 1024, 1024, 64), [(0, 0, 1024, 1024)], (1152, 1152)),
    ((1000, 30, 1024, 64), [(0, 0, 1000, 30)], (1152, 160)),
    ((1360, 1024, 1024, 64), [(0, 0, 704, 1024), (704, 0, 656, 1024)], (832, 1152)),
    ((65, 65, 64, 0), [(0, 0, 64, 64), (64, 0, 1, 64), (0, 64, 64, 1), (64, 64, 1, 1)], (64, 64)),
    ((1, 1, 32, 32), [(0, 0, 1, 1)], (96, 96)),
]


@pytest.mark.parametrize(("asked", "cores", "window"), TABLE)
def test_the_grid_is_the_one_computed_by_hand(asked, cores, window):
    tiles = grid_tiles(*asked)
    assert [(t.x, t.y, t.width, t.height) for t in tiles] == cores
    assert {(t.window_width, t.window_height) for t in tiles} == {window}


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 8), st.integers(0, 3))
def test_every_pixel_lies_in_exactly_one_core(width, height, tile, halo):
    covered = np.zeros((height, width), int)
    for t in grid_tiles(width, height, 32 * tile, 32 * halo):
        covered[t.y : t.y + t.height, t.x : t.x + t.width] += 1
        assert t.window_width % 32 == t.window_height % 32 == 0
        assert t.left + t.width <= t.window_width
        assert t.top + t.height <= t.window_height
    assert (covered == 1).all()


def test_sizes_the_network_cannot_take_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        grid_tiles(100, 100, 100, 0)


def test_a_mosaic_has_one_mirrored_tile_for_each_cell():
    tiles = cell_tiles(300, 128, 128, 32)
    assert [(t.x, t.y, t.width, t.height) for t in tiles] == [
        (0, 0, 128, 128),
        (128, 0, 128, 128),
        (256, 0, 44, 128),
    ]
    assert {(t.window_width, t.window_height, t.mirrored) for t in tiles} == {(192, 192, True)}


def test_cells_of_a_coarser_image_keep_their_place():
    # 64 slide pixels at 0.5 um are 128 working pixels; 100 at 0.26 are 104.
    assert [t.x for t in cell_tiles(312, 100, 104, 32)] == [0, 104, 208]


def test_only_tiles_that_meet_the_area_are_taken():
    tiles = grid_tiles(128, 64, 64, 0)
    right = box(140, 10, 150, 20)  # slide pixels, two of them a working pixel
    assert [t.x for t in touching(tiles, right, 2.0, 0)] == [64]
    assert [t.x for t in touching(tiles, right, 2.0, 8)] == [0, 64]
    assert touching([], right, 2.0, 0) == []
