"""Calibrated probabilities say how often they are right, and change no decision and no rank."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_standin import ArraySlide, disc, painted, standin_bundle

from midog_qupath.evaluation.metrics import best_threshold, pooled, type_score
from midog_qupath.inference.detect import detect
from midog_qupath.inference.forward import atypical_given_mitosis
from midog_qupath.learning.calibration import (
    FEWEST,
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from midog_qupath.learning.operating_point import best_type_threshold, operating_point_from
from midog_qupath.learning.scoring import ScoredField
from midog_qupath.models.bundle import OperatingPoint
from midog_qupath.models.calibration import Calibration, log_odds, sigmoid

NO_TYPES = (np.empty(0, dtype=bool), np.empty(0))


@pytest.fixture
def rng():
    """Random numbers whose seed is shown when a test fails."""
    seed = int(np.random.default_rng().integers(2**32))
    sys.stdout.write(f"seed {seed}\n")
    return np.random.default_rng(seed)


def calibration(slope, intercept):
    fitted = {"n": 20, "positives": 10, "error_before": 0.2, "error_after": 0.1, "bins": ()}
    return Calibration(slope=slope, intercept=intercept, chosen_on="a test", **fitted)


def calibrated(bundle, threshold=None, **calibrations):
    point = bundle.card.operating_point
    update = {"threshold": point.threshold if threshold is None else threshold, **calibrations}
    card = bundle.card.model_copy(update={"operating_point": point.model_copy(update=update)})
    return replace(bundle, card=card)


def test_a_known_distortion_is_found(rng):
    odds = rng.normal(-1, 2, 6000)
    positive = rng.random(6000) < sigmoid(odds)
    found = fit_calibration(positive, sigmoid(2 * odds + 1), "a test")
    assert (found.slope, found.intercept) == pytest.approx((0.5, -0.5), abs=0.12)
    assert found.error_after < 0.03 < found.error_before
    assert (found.n, found.positives) == (6000, positive.sum())
    assert sum(b.n for b in found.bins) == 6000


def test_what_is_calibrated_stays_nearly_as_it_is(rng):
    probabilities = sigmoid(rng.normal(0, 2, 5000))
    found = fit_calibration(rng.random(5000) < probabilities, probabilities, "a test")
    assert (found.slope, found.intercept) == pytest.approx((1, 0), abs=0.25)


def test_too_few_objects_calibrate_nothing():
    positive = np.arange(100) < FEWEST - 1
    assert fit_calibration(positive, np.full(100, 0.3), "") is None
    assert fit_calibration(~positive, np.full(100, 0.3), "") is None
    assert fit_calibration(np.empty(0, bool), np.empty(0), "") is None


def test_certain_and_contrary_probabilities_are_borne():
    positive = np.arange(40) < 20
    apart = fit_calibration(positive, positive.astype(float), "")
    assert apart.apply(np.array([0.0, 1.0])) == pytest.approx([0, 1], abs=0.01)
    contrary = fit_calibration(positive, (~positive).astype(float), "")
    # No use, but still in the order that the model gave.
    assert contrary.slope > 0
    assert contrary.apply(np.array([0.0, 1.0])) == pytest.approx([0.5, 0.5], abs=0.25)


def test_reliability_by_hand():
    positive = np.array([False, True, True, True, False])
    curve = reliability(positive, np.array([0.11, 0.15, 0.98, 1.0, 1.0]))
    assert [(b.predicted, b.observed, b.n) for b in curve] == [
        (pytest.approx(0.13), 0.5, 2),
        (pytest.approx(2.98 / 3), pytest.approx(2 / 3), 3),
    ]
    assert expected_calibration_error(curve) == pytest.approx((2 * 0.37 + 2.98 - 2) / 5)
    assert expected_calibration_error(()) == 0


@settings(deadline=None, max_examples=100)
@given(
    st.floats(0.05, 2.5), st.floats(-4, 4),
    st.lists(st.integers(-3000, 3000), min_size=2, max_size=30, unique=True),
)  # fmt: skip
def test_ranks_never_change_and_the_way_back_is_known(slope, intercept, odds):
    probabilities = sigmoid(np.array(odds) / 1000)
    applied = calibration(slope, intercept).apply(probabilities)
    assert (np.argsort(applied) == np.argsort(probabilities)).all()
    assert len(np.unique(applied)) == len(odds)
    # Where nothing was cut off at the certain ends.
    inner = abs(log_odds(applied)) < 13
    back = calibration(slope, intercept).invert(applied)
    assert back[inner] == pytest.approx(probabilities[inner], abs=1e-6)


def test_detections_carry_calibrated_probabilities_and_are_the_same():
    pixels = painted(300, 100, [(60, 50)])
    disc(pixels, 200, 50, red=195)
    slide, plain = ArraySlide(pixels), standin_bundle(threshold=0.3)
    fitted = calibration(0.5, -2.0)
    ours = calibrated(plain, threshold=float(fitted.apply(np.array([0.3]))[0]), mitosis_calibration=fitted)
    before, after = detect(slide, 0.25, plain), detect(slide, 0.25, ours)
    assert len(before) == 2
    assert [(d.x, d.y) for d in after] == [(d.x, d.y) for d in before]
    raw = np.array([d.mitosis_probability for d in before])
    assert [d.mitosis_probability for d in after] == pytest.approx(fitted.apply(raw))
    # Without the calibration the same model decides the same.
    back = detect(slide, 0.25, ours.uncalibrated())
    assert [d.mitosis_probability for d in back] == pytest.approx(raw)
    assert ours.uncalibrated().card.threshold == pytest.approx(0.3)


def test_the_probability_of_being_atypical_is_calibrated():
    classes = np.array([[0.2, 0.6, 0.2], [0.0, 0.5, 0.5]])
    fitted = calibration(1.5, 1.0)
    ours = calibrated(standin_bundle(), atypical_calibration=fitted)
    assert atypical_given_mitosis(standin_bundle(), classes) == pytest.approx([0.25, 0.5])
    expected = fitted.apply(np.array([0.25, 0.5]))
    assert atypical_given_mitosis(ours, classes) == pytest.approx(expected)


def test_models_without_calibrations_still_load():
    old = OperatingPoint.model_validate(
        {"threshold": 0.3, "atypical_threshold": 0.4, "verifier_weight": 0.5, "chosen_on": "then"}
    )
    assert (old.mitosis_calibration, old.atypical_calibration) == (None, None)
    assert old.uncalibrated() == old
    new = old.model_copy(update={"mitosis_calibration": calibration(0.5, 1.0)})
    assert OperatingPoint.model_validate_json(new.model_dump_json()) == new


def fields(rng, count):
    """Images 100 um apart from each other's objects: six mitoses each, most of them found, and impostors."""
    made = []
    for _ in range(count):
        truth = np.stack([np.arange(6) * 50.0, np.zeros(6)], axis=1)
        others = np.stack([np.arange(20) * 50.0, np.full(20, 100.0)], axis=1)
        odds = np.concatenate([rng.normal(1, 1.5, 5), rng.normal(-2, 1, 20)])
        made.append(ScoredField(truth, np.concatenate([truth[:5] + 1, others]), sigmoid(5 * odds)))
    return made


def test_the_threshold_lives_on_the_calibrated_scale(rng):
    images = fields(rng, 60)
    point = operating_point_from(
        images, *NO_TYPES, "fields of somewhere", OperatingPoint(verifier_weight=0.25)
    )
    counts = pooled(images, point.uncalibrated().threshold)
    assert counts == best_threshold(images)[1]
    assert point.mitosis_calibration.slope < 0.8
    assert point.mitosis_calibration.n == 60 * 25
    assert point.verifier_weight == 0.25
    assert point.chosen_on == f"360 mitoses of fields of somewhere, F1 there {counts.f1:.3f}"
    # Where the probability is right, the best threshold is half the best F1 (Lipton et al. 2014).
    assert point.threshold == pytest.approx(counts.f1 / 2, abs=0.25)


def test_the_lowest_nuclei_around_mitoses_come_with_the_threshold(rng):
    one, other, empty = fields(rng, 3)
    images = [
        replace(one, nuclei_log_odds=4.5),
        replace(other, nuclei_log_odds=3.0),
        replace(empty, truth=empty.truth[:0], nuclei_log_odds=1.0),
    ]
    assert operating_point_from(images, *NO_TYPES, "x", OperatingPoint()).nuclei_level == 3.0
    # Where nothing is chosen, threshold and nuclei of before stay together.
    before = OperatingPoint(threshold=0.8, nuclei_level=2.0)
    assert operating_point_from(images[2:], *NO_TYPES, "x", before) == before


def test_types_choose_their_own_threshold(rng):
    odds = rng.normal(0, 2, 400)
    labels = rng.random(400) < sigmoid(odds - 1)
    raw = sigmoid(odds)
    point = operating_point_from([], labels, raw, "nothing", OperatingPoint())
    assert point.chosen_on == OperatingPoint().chosen_on
    assert point.threshold == 0.5
    called = point.atypical_calibration.apply(raw) >= point.atypical_threshold
    best = max(type_score(labels, raw >= t).balanced_accuracy for t in raw)
    assert type_score(labels, called).balanced_accuracy == pytest.approx(best)


def test_too_little_chooses_nothing(rng):
    one = fields(rng, 1)[0]
    few = ScoredField(one.truth[:3], one.predictions, one.probabilities)
    nothing = ScoredField(one.truth, np.empty((0, 2)), np.empty(0))
    for images in ([], [few], [nothing]):
        point = operating_point_from(
            images, np.array([True, False]), np.array([0.9, 0.1]), "x", OperatingPoint()
        )
        assert point == OperatingPoint()
    # Enough for a threshold, not for a calibration.
    point = operating_point_from([one], *NO_TYPES, "x", OperatingPoint())
    assert point.mitosis_calibration is None
    assert point.threshold == best_threshold([one])[0]


def test_the_best_threshold_between_types_by_hand():
    labels = np.array([False, False, False, True, True])
    assert best_type_threshold(labels, np.array([0.1, 0.2, 0.4, 0.3, 0.8])) == pytest.approx(0.25)
    assert best_type_threshold(labels, np.array([0.1, 0.2, 0.4, 0.6, 0.8])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="needs both"):
        best_type_threshold(labels[:2], np.array([0.1, 0.2]))
