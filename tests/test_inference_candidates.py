"""From a probability map to outlines, and from candidates to one detection an object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from midog_qupath.detection import Detection
from midog_qupath.inference.merge import keep_highest, merge
from midog_qupath.inference.outline import outline
from midog_qupath.inference.peaks import find_peaks, windows_around


def peaks_of(rows, radius=1, floor=0.1):
    found = find_peaks(torch.from_numpy(np.array([rows], dtype=np.float32)), radius, floor)
    return [tuple(where[1:]) for where in found.where.tolist()]


def test_peaks_are_the_local_maxima_above_the_floor():
    assert peaks_of([[0.2, 0.9, 0.2, 0.05, 0.0, 0.3]]) == [(0, 1), (0, 5)]
    assert peaks_of([[0.2, 0.9, 0.2, 0.05, 0.0, 0.3]], radius=4) == [(0, 1)]
    assert peaks_of([[0.2, 0.9, 0.2, 0.05, 0.0, 0.3]], floor=0.5) == [(0, 1)]
    assert peaks_of([[0.0, 0.05]]) == []


def test_a_plateau_has_one_peak_in_its_middle():
    certain = np.zeros((9, 9))
    certain[2:7, 2:7] = 1.0
    assert peaks_of(certain) == [(4, 4)]


def test_a_map_of_one_value_does_not_flood_the_candidates():
    assert len(peaks_of(np.full((64, 64), 0.25))) == 1


def test_windows_hold_the_surroundings_and_zeros_past_the_edge():
    numbers = torch.arange(1, 10, dtype=torch.float32).reshape(1, 3, 3)
    where = torch.tensor([[0, 0, 0], [0, 1, 1]])
    windows = windows_around(numbers, where, 1)
    assert windows[0].tolist() == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]
    assert windows[1].tolist() == numbers[0].tolist()


def window_with_disc(radius: float, side: int = 37) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - side // 2
    return np.clip(radius - np.hypot(rows, columns) + 0.5, 0, 1).astype(np.float32)


@pytest.mark.parametrize("radius", [5.0, 7.5, 12.0])
def test_the_outline_of_a_disc_has_its_area_and_centre(radius):
    polygon = outline(window_with_disc(radius), 0.5)
    assert polygon.is_valid
    assert polygon.area == pytest.approx(np.pi * radius**2, rel=0.06)
    assert polygon.centroid.coords[0] == pytest.approx((18.5, 18.5), abs=0.1)


@pytest.mark.parametrize("window", [np.full((37, 37), 0.9, np.float32), window_with_disc(0.6)])
def test_what_is_too_large_or_too_small_becomes_a_circle_of_three_microns(window):
    polygon = outline(window, 0.5)
    assert polygon.area == pytest.approx(np.pi * 6**2, rel=0.02)
    assert polygon.centroid.coords[0] == pytest.approx((18.5, 18.5), abs=1e-6)


def test_the_outline_leaves_out_the_neighbour():
    window = window_with_disc(6)
    window[:, 30:] = 0.8
    assert outline(window, 0.5).bounds[2] < 26


def detection(x, y, p):
    return Detection(x, y, p, None, None)


def test_candidates_within_the_matching_radius_are_one_detection():
    # 0.25 um/px: 7.5 um = 30 px, inclusive.
    found = [detection(0, 0, 0.6), detection(30, 0, 0.9), detection(60.5, 0, 0.7), detection(0, 0, 0.5)]
    assert [d.x for d in merge(found, 0.25)] == [30, 60.5]
    assert merge([], 0.25) == []


def test_equal_candidates_do_not_depend_on_their_order():
    points, scores = np.array([[10.0, 5], [0, 5], [5, 0]]), np.ones(3)
    assert keep_highest(points, scores, 20).tolist() == [2]
    assert keep_highest(points[::-1], scores, 20).tolist() == [0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5)), max_size=25))
def test_what_is_kept_lies_apart_and_what_is_not_has_a_better_one_near(rows):
    points = np.array([r[:2] for r in rows], float).reshape(-1, 2)
    scores = np.array([r[2] for r in rows], float)
    kept = keep_highest(points, scores, 10)
    for i in kept:
        assert all(np.hypot(*(points[i] - points[j])) > 10 for j in kept if j != i)
    for i in set(range(len(rows))) - set(kept.tolist()):
        assert any(np.hypot(*(points[i] - points[j])) <= 10 and scores[j] >= scores[i] for j in kept)
