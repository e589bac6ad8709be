"""Matching and pooled figures follow the challenge's rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midog_qupath.evaluation.matching import match
from midog_qupath.evaluation.metrics import (
    Counts,
    ScoredImage,
    best_threshold,
    count,
    pooled,
    type_score,
)


def points(*pairs):
    return np.array(pairs, dtype=float).reshape(-1, 2)


def test_the_radius_is_seven_and_a_half_microns_inclusive():
    assert count(points((0, 0)), points((7.5, 0))) == Counts(1, 0, 0)
    assert count(points((0, 0)), points((4.5, 6.0))) == Counts(1, 0, 0)
    assert count(points((0, 0)), points((7.5001, 0))) == Counts(0, 1, 1)


def test_a_duplicate_is_a_false_positive():
    assert count(points((0, 0)), points((1, 0), (0, 1))) == Counts(1, 1, 0)


def test_each_truth_takes_the_nearest_free_prediction_in_y_x_order():
    # The upper truth takes the prediction between both although the lower one is nearer to it.
    found = match(points((0, 10), (0, 0)), points((0, 6)))
    assert found.hits == ((1, 0),)
    assert found.missed == (0,)
    # In the same row the left one is first.
    assert match(points((5, 0), (0, 0)), points((3, 0))).hits == ((1, 0),)


def test_the_order_of_the_ground_truth_does_not_matter():
    truth, predictions = points((0, 0), (0, 10), (0, 18)), points((0, 6), (0, 13))
    assert match(truth, predictions).missed == (2,)
    assert match(truth[::-1], predictions).missed == (0,)


def test_empty_sides_are_counted():
    assert count(points(), points((1, 1), (2, 2))) == Counts(0, 2, 0)
    assert count(points((1, 1)), points()) == Counts(0, 0, 1)
    assert count(points(), points()) == Counts()


def reference(truth, predictions, radius):
    """The rule as the challenge states it, by exhaustive search."""
    used, hits = set(), 0
    for ty, tx in sorted((y, x) for x, y in truth):
        best = None
        for index, (x, y) in enumerate(predictions):
            squared = (x - tx) ** 2 + (y - ty) ** 2
            if index not in used and squared <= radius**2 and (best is None or squared < best[0]):
                best = (squared, index)
        if best is not None:
            used.add(best[1])
            hits += 1
    return hits, len(predictions) - hits, len(truth) - hits


whole_positions = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=12)


@settings(deadline=None, max_examples=150)
@given(whole_positions, whole_positions)
def test_matching_equals_the_exhaustive_rule(truth, predictions):
    found = count(points(*truth), points(*predictions))
    assert (found.tp, found.fp, found.fn) == reference(truth, predictions, 7.5)


@settings(deadline=None, max_examples=50)
@given(whole_positions, whole_positions, st.randoms())
def test_shuffling_the_truth_changes_no_count(truth, predictions, random):
    before = count(points(*truth), points(*predictions))
    random.shuffle(truth)
    assert count(points(*truth), points(*predictions)) == before


def test_figures_of_the_paper_follow_from_its_counts():
    # Final test of MIDOG 2025: TP 2704, FP 527, FN 2261.
    paper = Counts(2704, 527, 2261)
    assert paper.precision == pytest.approx(0.8369, abs=5e-5)
    assert paper.recall == pytest.approx(0.5446, abs=5e-5)
    assert paper.f1 == pytest.approx(0.6598, abs=5e-5)


def test_images_are_pooled_not_averaged():
    first = ScoredImage(points((0, 0)), points((0, 0)), np.array([0.9]))
    empty = ScoredImage(points(), points((0, 0), (50, 50)), np.array([0.8, 0.2]))
    assert pooled([first, empty], 0.5) == Counts(1, 1, 0)


def test_the_threshold_with_the_best_pooled_f1_is_found():
    truth = points((0, 0), (100, 0), (200, 0))
    predictions = points((0, 0), (100, 0), (300, 0), (200, 0))
    image = ScoredImage(truth, predictions, np.array([0.9, 0.8, 0.6, 0.1]))
    threshold, counts = best_threshold([image])
    # All four: 2*3/(6+1) = 0.857; the best three: 0.667; the best two: 0.8.
    assert threshold == pytest.approx(0.1)
    assert counts == Counts(3, 1, 0)
    threshold, counts = best_threshold([ScoredImage(truth[:2], predictions, image.probabilities)])
    assert threshold == pytest.approx(0.7)
    assert counts == Counts(2, 0, 0)


def test_no_predictions_no_threshold():
    with pytest.raises(ValueError, match="no predictions"):
        best_threshold([ScoredImage(points((0, 0)), points(), np.empty(0))])


def test_balanced_accuracy_is_the_mean_over_both_kinds():
    atypical = np.array([True, True, False, False, False, False])
    called = np.array([True, False, False, False, False, True])
    score = type_score(atypical, called)
    assert (score.sensitivity, score.specificity) == (0.5, 0.75)
    assert score.balanced_accuracy == 0.625
    assert type_score(atypical[:2], called[:2]).balanced_accuracy is None
