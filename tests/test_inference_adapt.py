"""Getting used to an image: its statistics, its nuclei, and what images of one domain share."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_standin import painted, standin_bundle
from torch import nn

from midog_qupath.inference.adapt import Adapter, Look, look_at, nuclei_log_odds
from midog_qupath.inference.detect import detect
from midog_qupath.learning.predict import ArraySlide
from midog_qupath.models.bundle import Bundle, BundleCard, OperatingPoint
from midog_qupath.models.student import NetworkConfig, Student

EDGES = np.arange(-20, 20.25, 0.25)


def adapting(share: float = 0.3, quantile: float = 0.98) -> Bundle:
    torch.manual_seed(0)
    point = OperatingPoint(statistics_share=share, nuclei_quantile=quantile)
    card = BundleCard(name="random", created="", network=NetworkConfig(), operating_point=point)
    return Bundle(card, Student(card.network).eval(), "")


def noise(seed: int, middle: int, size: int = 256) -> ArraySlide:
    pixels = np.random.default_rng(seed).normal(middle, 25, (size, size, 3))
    return ArraySlide(np.clip(pixels, 0, 255).astype(np.uint8))


def statistics(bundle: Bundle) -> list[torch.Tensor]:
    layers = [m for m in bundle.network.modules() if isinstance(m, nn.BatchNorm2d)]
    return [tensor for m in layers for tensor in (m.running_mean, m.running_var) if tensor is not None]


def counted(*values: float, um2: float = 1e6) -> np.ndarray:
    return np.histogram(values, EDGES)[0] * (um2 / len(values))


def test_statistics_go_towards_those_of_the_image_by_their_share():
    image = noise(1, 150)
    plain, all_of_them, some = (adapting(share, 0) for share in (0.0, 1.0, 0.25))
    looks = {share: look_at(b, image, 0.25) for share, b in ((0.0, plain), (1.0, all_of_them), (0.25, some))}
    assert looks[0.0].statistics == ()
    before = [tensor.clone() for tensor in statistics(some)]
    full = statistics(Adapter(all_of_them, {"i": looks[1.0]}, {"i": "d"}).bundle_for("i"))
    part = statistics(Adapter(some, {"i": looks[0.25]}, {"i": "d"}).bundle_for("i"))
    for learnt, seen, mixed in zip(before, full, part, strict=True):
        assert torch.allclose(mixed, 0.75 * learnt + 0.25 * seen, atol=1e-5)
    # The model itself stays as it was.
    assert all(torch.equal(*pair) for pair in zip(before, statistics(some), strict=True))
    assert not some.network.training


def test_a_look_is_the_same_however_often_and_sees_nuclei():
    bundle, image = adapting(), noise(2, 120, 700)
    one, two = look_at(bundle, image, 0.25), look_at(copy.deepcopy(bundle), image, 0.25)
    assert np.array_equal(one.nuclei, two.nuclei)
    assert all(torch.equal(a, b) for x, y in zip(one.statistics, two.statistics, strict=True)
               for a, b in zip(x, y, strict=True))  # fmt: skip
    assert 0 < one.nuclei.sum() <= (768 * 0.25) ** 2 * 1.2


def test_the_quantile_of_nuclei_and_what_few_of_them_count_for():
    spread = counted(*np.linspace(-5, 5, 4001), um2=1e7)
    assert nuclei_log_odds([spread], 0.9) == pytest.approx(4.0, abs=0.1)
    assert nuclei_log_odds([spread, counted(*np.linspace(5, 15, 4001), um2=1e7)], 0.5) == pytest.approx(
        5.0, abs=0.2
    )
    # An exponential tail is drawn out right, and what sits in its last hundredths changes little.
    tail = np.log(1 / np.linspace(1, 1e-5, 100_001)[:-1])
    assert nuclei_log_odds([counted(*tail, um2=1e7)], 0.975) == pytest.approx(np.log(40), abs=0.1)
    with_mitoses = np.concatenate([tail, np.full(1_500, 15.0)])
    assert nuclei_log_odds([counted(*with_mitoses, um2=1e7)], 0.975) < np.log(40) + 0.7
    usual = nuclei_log_odds([np.zeros(len(EDGES) - 1)], 0.98)
    few, many = (nuclei_log_odds([counted(3.0, um2=um2)], 0.98) for um2 in (50, 1e7))
    assert usual == 6.0
    assert few == pytest.approx(usual, abs=0.1)
    assert many == pytest.approx(3.0, abs=0.3)
    assert nuclei_log_odds([counted(-9.0, um2=1e7)], 0.98) == 0.0


def test_images_of_one_domain_share_the_measure_of_their_nuclei():
    bundle = adapting(share=0)
    values = {"a": -4.0, "b": 2.0, "other": 8.0}
    looks = {name: Look((), counted(value, um2=1e8)) for name, value in values.items()}
    adapter = Adapter(bundle, looks, {"a": "lab", "b": "lab", "other": "elsewhere"})
    measure = {name: adapter.bundle_for(name).nuclei_log_odds for name in looks}
    assert measure["a"] == measure["b"] == pytest.approx(2.2, abs=0.1)
    assert measure["other"] == pytest.approx(8.2, abs=0.1)


def test_where_nuclei_look_more_normal_than_where_the_threshold_was_chosen_half_of_it_counts():
    bundle = adapting(share=0)
    point = bundle.card.operating_point.model_copy(update={"nuclei_level": 4.0})
    bundle = replace(bundle, card=bundle.card.model_copy(update={"operating_point": point}))
    looks = {name: Look((), counted(value, um2=1e8)) for name, value in (("seen", 1.0), ("unseen", 6.0))}
    adapter = Adapter(bundle, looks, {"seen": "one", "unseen": "other"})
    assert adapter.bundle_for("seen").nuclei_log_odds == pytest.approx((1.2 + 4.0) / 2, abs=0.1)
    assert adapter.bundle_for("unseen").nuclei_log_odds == pytest.approx(6.2, abs=0.1)


@settings(deadline=None)
@given(measure=st.floats(-6, 6), probability=st.floats(0.01, 0.99))
def test_candidates_count_from_the_nuclei_and_back(measure: float, probability: float):
    bundle = replace(standin_bundle(), nuclei_log_odds=measure)
    shifted = bundle.calibrated_mitosis(probability)
    odds = np.log(shifted / (1 - shifted)) - np.log(probability / (1 - probability))
    assert odds == pytest.approx(-measure, abs=1e-3)
    assert bundle.uncalibrated_mitosis(shifted) == pytest.approx(probability, abs=1e-4)


def test_detections_stay_and_their_probabilities_count_from_the_nuclei():
    slide, bundle = ArraySlide(painted(300, 100, [(60, 50)])), standin_bundle()
    (before,) = detect(slide, 0.25, bundle, minimum_probability=0.1)
    (after,) = detect(slide, 0.25, replace(bundle, nuclei_log_odds=2.0), minimum_probability=0.1)
    assert (after.x, after.y) == (before.x, before.y)
    assert after.mitosis_probability < before.mitosis_probability


def test_a_model_that_adapts_nothing_looks_at_nothing():
    bundle = standin_bundle()
    look = look_at(bundle, noise(3, 100), 0.25)
    adapter = Adapter(bundle, {"i": look}, {"i": "d"})
    assert look.statistics == ()
    assert not look.nuclei.any()
    assert adapter.bundle_for("i") is bundle
