"""An area read at any resolution holds the pixels that lie there, however it is cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_images import smooth, speckled

from midog_qupath.slides import resample
from midog_qupath.slides.base import Level, RgbArray
from midog_qupath.slides.pyramid import estimate_downsample, levels_of
from midog_qupath.slides.resample import best_level, read_resampled

IMAGE = speckled()
SMOOTH = smooth()


def read(
    rgb: RgbArray,
    x: float,
    y: float,
    width: int,
    height: int,
    downsample: float,
    levels: Sequence[int] = (1,),
) -> RgbArray:
    """Through a pyramid of exact averages."""
    pyramid = [cv2.resize(rgb, None, fx=1 / s, fy=1 / s, interpolation=cv2.INTER_AREA) for s in levels]
    described = [Level(p.shape[1], p.shape[0], float(s)) for p, s in zip(pyramid, levels, strict=True)]

    def read_level(index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        piece = pyramid[index][y : y + height, x : x + width]
        assert piece.shape[:2] == (height, width), "read past the level"
        return piece

    return read_resampled(described, read_level, x, y, width, height, downsample)


def on_white(rgb: RgbArray, margin: int) -> RgbArray:
    return np.pad(rgb, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)


@settings(deadline=None, max_examples=60)
@given(st.integers(-60, 260), st.integers(-60, 180), st.integers(1, 90), st.integers(1, 90))
def test_full_resolution_is_the_pixels_themselves_and_white_outside(
    x: int, y: int, width: int, height: int
) -> None:
    around = on_white(IMAGE, 200)
    expected = around[y + 200 : y + 200 + height, x + 200 : x + 200 + width]
    assert np.array_equal(read(IMAGE, x, y, width, height, 1.0), expected)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 7), st.integers(-4, 20), st.integers(-4, 20))
def test_whole_downsamples_are_block_averages(factor: int, column: int, row: int) -> None:
    got = read(IMAGE, column * factor, row * factor, 9, 8, factor)
    around = on_white(IMAGE, 7 * 40).astype(float)
    y, x = row * factor + 280, column * factor + 280
    blocks = around[y : y + 8 * factor, x : x + 9 * factor].reshape(8, factor, 9, factor, 3)
    assert np.abs(got - blocks.mean(axis=(1, 3))).max() <= 0.51


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0.3, 9.0),
    st.floats(-30, 120),
    st.floats(-30, 90),
    st.integers(1, 40),
    st.sampled_from([(1,), (1, 4), (1, 2, 8)]),
)
def test_tiles_pasted_together_are_the_area_read_at_once(
    downsample: float, x: float, y: float, side: int, levels: tuple[int, ...]
) -> None:
    whole = read(SMOOTH, x, y, 40, 40, downsample, levels)
    tiles = np.zeros_like(whole)
    for top in range(0, 40, side):
        for left in range(0, 40, side):
            width, height = min(side, 40 - left), min(side, 40 - top)
            piece = read(
                SMOOTH, x + left * downsample, y + top * downsample, width, height, downsample, levels
            )
            tiles[top : top + height, left : left + width] = piece
    # Positions are kept to 1/32 of a pixel when interpolating: at the hard edge of the image up to 8 of 255.
    assert np.abs(whole.astype(int) - tiles).max() <= 9


@settings(deadline=None, max_examples=40)
@given(st.floats(0.4, 6.0), st.floats(10, 20), st.floats(10, 20), st.sampled_from([(1,), (1, 2, 4)]))
def test_pixels_lie_where_they_are_asked_for(
    downsample: float, x: float, y: float, levels: tuple[int, ...]
) -> None:
    """On a slope of two grey levels a pixel, the value of a tile pixel tells its position."""
    columns, rows = np.meshgrid(np.arange(0, 256, 2), np.arange(0, 256, 2))
    slope = np.stack([columns, rows, columns], axis=2).astype(np.uint8)
    got = read(slope, x, y, 16, 16, downsample, levels) / 2
    centres = (np.arange(16) + 0.5) * downsample - 0.5
    # Values are rounded up to three times: half a grey level, a quarter of a pixel each.
    assert np.abs(got[:, :, 0] - (x + centres)[None, :]).max() <= 0.75
    assert np.abs(got[:, :, 1] - (y + centres)[:, None]).max() <= 0.75
    assert abs(got[:, :, 0].mean() - (x + centres).mean()) <= 0.5


@pytest.mark.parametrize(("downsample", "level"), [(0.5, 0), (1, 0), (3.9, 0), (3.99, 1), (4.01, 1), (40, 2)])
def test_the_coarsest_level_that_is_fine_enough_is_read(downsample: float, level: int) -> None:
    levels = [Level(1600, 1600, 1.0), Level(400, 400, 4.0003), Level(100, 100, 16.0)]
    assert best_level(levels, downsample) == level


def test_a_thumbnail_of_one_level_is_read_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read(IMAGE, 0, 0, 23, 15, 10.0)
    monkeypatch.setattr(resample, "_LARGEST_READ", 23 * 10 * 10 * 4)
    sizes = []

    def read_level(index: int, x: int, y: int, width: int, height: int) -> RgbArray:
        sizes.append(width * height)
        return IMAGE[y : y + height, x : x + width]

    got = read_resampled([Level(230, 150, 1.0)], read_level, 0, 0, 23, 15, 10.0)
    assert np.array_equal(got, expected)
    assert len(sizes) == math.ceil(15 / 4)
    assert max(sizes) <= 230 * 40


def test_fine_structure_does_not_alias() -> None:
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, ::2] = 255
    for downsample in (2.0, 2.6, 3.5, 5.2):
        got = read(stripes, 0.3, 0.3, 20, 20, downsample)[3:-3, 3:-3]
        assert np.abs(got.astype(float) - 127.5).max() <= 45, downsample


@pytest.mark.parametrize(
    ("full", "part", "downsample"),
    [
        ((4443, 3567), (2221, 1783), 2.0),  # rounded down: the plain ratio is 2.0005
        ((100_000, 80_001), (6_250, 5_001), 16.0),
        ((9_001, 6_000), (3_000, 2_000), 3.0),
        ((1_000, 1_000), (400, 400), 2.5),
        ((500, 300), (500, 300), 1.0),
    ],
)
def test_downsamples_are_those_that_sizes_were_rounded_from(
    full: tuple[int, int], part: tuple[int, int], downsample: float
) -> None:
    assert estimate_downsample(full, part) == downsample


def test_levels_that_do_not_get_smaller_are_left_out() -> None:
    levels = levels_of([(800, 600), (400, 300), (400, 300), (100, 75)])
    assert [level.downsample for level in levels] == [1, 2]
