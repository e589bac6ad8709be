"""Detections of an image do not depend on how it was cut into tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_standin import ArraySlide, disc, painted, standin_bundle
from shapely.geometry import box

from midog_qupath.errors import ModelError
from midog_qupath.inference.detect import Tiling, classify_at, detect
from midog_qupath.inference.device import choose_device


def test_figures_are_found_where_they_are_with_outline_and_type():
    pixels = painted(300, 200, [(60, 50)], green=250)
    disc(pixels, 210, 120, green=10)
    found = detect(ArraySlide(pixels), 0.25, standin_bundle())
    normal, atypical = sorted(found, key=lambda d: d.x)
    assert (normal.x, normal.y) == pytest.approx((60, 50), abs=1)
    assert (atypical.x, atypical.y) == pytest.approx((210, 120), abs=1)
    assert normal.atypical_probability < 0.01 < 0.99 < atypical.atypical_probability
    assert normal.polygon.area == pytest.approx(np.pi * 12**2, rel=0.2)


def test_coordinates_are_slide_pixels_at_any_pixel_size():
    # At 0.5 um/px a slide pixel is two working pixels.
    found = detect(ArraySlide(painted(200, 100, [(150, 40)], radius=8)), 0.5, standin_bundle())
    assert [(d.x, d.y) for d in found] == [pytest.approx((150, 40), abs=1)]


@settings(deadline=None, max_examples=12)
@given(
    st.lists(st.tuples(st.floats(0, 330), st.floats(0, 230), st.integers(0, 120)), max_size=8),
    st.integers(90, 330),
    st.integers(90, 230),
    st.sampled_from([64, 96, 160]),
    st.sampled_from([1, 100_000]),
)
def test_tiled_equals_untiled(figures, width, height, core, batch):
    pixels = painted(width, height, [])
    for x, y, red in figures:
        disc(pixels, x, y, red)
    slide, bundle = ArraySlide(pixels), standin_bundle()
    whole = detect(slide, 0.25, bundle, minimum_probability=0.1, tiling=Tiling(core=512))
    tiled = detect(
        slide, 0.25, bundle, minimum_probability=0.1, tiling=Tiling(core=core, halo=64, together=batch)
    )
    assert [(d.x, d.y) for d in tiled] == [pytest.approx((d.x, d.y)) for d in whole]
    for a, b in zip(tiled, whole, strict=True):
        assert a.mitosis_probability == pytest.approx(b.mitosis_probability, rel=1e-5)
        assert a.polygon.symmetric_difference(b.polygon).area < 1e-3


def test_only_the_area_is_answered():
    slide = ArraySlide(painted(400, 100, [(50, 50), (200, 50), (350, 50)]))
    found = detect(slide, 0.25, standin_bundle(), box(190, 0, 260, 100), tiling=Tiling(core=64))
    assert [round(d.x) for d in found] == [200]
    assert detect(slide, 0.25, standin_bundle(), box(90, 0, 120, 100)) == []


def test_a_lower_minimum_adds_and_changes_nothing_else():
    pixels = painted(300, 100, [(60, 50)])
    disc(pixels, 200, 50, red=195)
    slide, bundle = ArraySlide(pixels), standin_bundle(threshold=0.9)
    sure, all_of_them = detect(slide, 0.25, bundle), detect(slide, 0.25, bundle, minimum_probability=0.05)
    assert [d.mitosis_probability for d in sure] == [d.mitosis_probability for d in all_of_them[:1]]
    assert len(all_of_them) == 2


def test_every_cell_of_a_mosaic_is_looked_at():
    apart = ArraySlide(painted(256, 128, [(64, 64), (192, 64)]))
    cells = detect(apart, 0.25, standin_bundle(), cell_px=128)
    assert sorted((round(d.x), round(d.y)) for d in cells) == [(64, 64), (192, 64)]


def test_a_figure_at_a_cell_border_is_found_once_and_stays_in_its_cell():
    slide = ArraySlide(painted(256, 128, [(124, 64)]))
    found = detect(slide, 0.25, standin_bundle(), cell_px=128)
    assert len(found) == 1
    assert found[0].polygon.bounds[2] <= 128 or found[0].polygon.bounds[0] >= 128


def test_outlines_end_at_the_image():
    slide = ArraySlide(painted(128, 128, [(2, 126)]))
    (found,) = detect(slide, 0.25, standin_bundle())
    assert box(0, 0, 128, 128).covers(found.polygon)


def test_memory_is_two_batches_whatever_the_image():
    slide = ArraySlide(np.full((2000, 3000, 3), 255, np.uint8))
    shares: list[float] = []
    found = detect(slide, 0.25, standin_bundle(), tiling=Tiling(256, 32), advance=shares.append)
    assert found == []
    assert slide.largest_read <= (256 + 64) ** 2
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("cell", [None, 128])
def test_given_positions_are_classified(cell):
    pixels = painted(256, 256, [(64, 64)], green=250)
    disc(pixels, 192, 192, green=0)
    points = np.array([[64.0, 64], [192, 192]])
    classes = classify_at(ArraySlide(pixels), 0.25, standin_bundle(), points, cell)
    assert classes.argmax(axis=1).tolist() == [1, 2]
    assert classify_at(ArraySlide(pixels), 0.25, standin_bundle(), points[:0], cell).shape == (0, 3)


def test_a_device_that_is_not_there_is_one_clear_error():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in {"cpu", "cuda", "mps"}
    with pytest.raises(ModelError, match="no usable device"):
        choose_device("abacus")
