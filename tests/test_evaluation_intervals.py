"""Every figure of drawn cases equals the plain figure on a set in which a case stands so many times."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from midog_qupath.evaluation.curves import average_precision, froc_auc, roc_auc
from midog_qupath.evaluation.figures import (
    curve_statistics,
    detection_statistics,
    differences,
    type_statistics,
)
from midog_qupath.evaluation.measured import MeasuredImage, TypedFigures
from midog_qupath.evaluation.metrics import Counts, ScoredImage, count, sweep, type_score
from midog_qupath.evaluation.resampled import ScoredCases
from midog_qupath.evaluation.summary import compare, curve_score, detection_score, types_score


@pytest.fixture
def rng():
    """Random numbers whose seed is shown when a test fails."""
    seed = int(np.random.default_rng().integers(2**32))
    sys.stdout.write(f"seed {seed}\n")
    return np.random.default_rng(seed)


def random_image(rng, name, case, crowd=10, side=60.0):
    truth, predictions = (rng.uniform(0, side, (rng.integers(0, crowd), 2)) for _ in range(2))
    # No two probabilities alike: of equal ones, drawn twice, the order is nobody's.
    probabilities = rng.random(len(predictions))
    figures = int(rng.integers(0, 6))
    called = rng.integers(-1, 2, figures)
    types = TypedFigures(
        (case,) * figures, rng.random(figures) < 0.5, called, rng.integers(0, 9, figures) / 9
    )
    scored = ScoredImage(truth, predictions, probabilities)
    counts = count(truth, predictions[probabilities >= 0.5])
    domain, kind = f"D{rng.integers(2)}", ("hotspot", "random")[rng.integers(2)]
    return MeasuredImage(name, case, domain, kind, 1.0, counts, scored, types)


def random_set(rng, images=7, cases=4):
    return [random_image(rng, f"i{n}", f"c{rng.integers(cases)}") for n in range(images)]


def drawn(images, names, weights):
    """The set that a draw stands for."""
    times = dict(zip(names, weights.astype(int), strict=True))
    return [image for image in images for _ in range(times[image.case])]


def plain(images):
    """All figures of a set, by the plain functions; NaN where one does not exist."""
    counts = sum((image.counts for image in images), Counts())
    scored = [image.scored for image in images]
    mitoses = counts.tp + counts.fn
    atypical = np.concatenate([np.empty(0, bool), *(image.types.is_atypical for image in images)])
    called = np.concatenate([np.empty(0, int), *(image.types.called for image in images)])
    scores = np.concatenate([np.empty(0), *(image.types.scores for image in images)])
    known = called >= 0
    types = type_score(atypical[known], called[known] == 1)
    return {
        "precision": counts.precision if counts.tp + counts.fp else None,
        "recall": counts.recall if mitoses else None,
        "f1": counts.f1 if mitoses else None,
        "average_precision": average_precision(scored),
        "froc_auc": froc_auc(sweep(scored)) if images else None,
        "balanced_accuracy": types.balanced_accuracy,
        "sensitivity": types.sensitivity,
        "specificity": types.specificity,
        "roc_auc": roc_auc(atypical, scores),
    }


def statistics_of(images):
    names = detection_statistics(images).cases
    index = {name: number for number, name in enumerate(names)}
    scored = ScoredCases.of(
        [image.scored for image in images], [index[image.case] for image in images], len(names)
    )
    return [detection_statistics(images), curve_statistics(images, scored), type_statistics(images)]


def test_each_figure_of_a_draw_is_that_of_the_drawn_set(rng):
    for _ in range(12):
        images = random_set(rng)
        for statistics in statistics_of(images):
            names = statistics.cases
            weights = rng.multinomial(len(names), np.full(len(names), 1 / max(len(names), 1)), size=8)
            weights = np.vstack([np.ones((1, len(names))), weights]).astype(float)
            for name, statistic in statistics.by_name.items():
                found = statistic(weights)
                for row, value in zip(weights, found, strict=True):
                    others = [image for image in images if image.case in names]
                    expected = plain(drawn(others, names, row))[name]
                    if expected is None:
                        assert np.isnan(value), name
                    else:
                        assert value == pytest.approx(expected, abs=1e-9), name


def test_the_value_of_a_figure_is_the_plain_one_in_every_group(rng):
    images = random_set(rng, images=20, cases=8)
    detection, curves, types = detection_score(images), curve_score(images, 0.0), types_score(images)
    expected = plain(images)
    for name in ("precision", "recall", "f1"):
        assert detection.pooled.figures[name].value == pytest.approx(expected[name])
    for name in ("average_precision", "froc_auc"):
        assert curves.pooled[name].value == pytest.approx(expected[name])
    assert types.pooled.figures["balanced_accuracy"].value == pytest.approx(expected["balanced_accuracy"])
    for key, rows, lines in (
        ("domain", detection.per_domain, curves.per_domain),
        ("region_type", detection.per_region_type, curves.per_region_type),
    ):
        groups = {getattr(image, key) for image in images}
        assert set(rows) == set(lines) == groups
        for group in groups:
            part = plain([image for image in images if getattr(image, key) == group])
            for found, name in ((rows[group].figures, "f1"), (lines[group], "average_precision")):
                value = found[name].value if found[name] else None
                assert value == (None if part[name] is None else pytest.approx(part[name]))
    # Counts of groups are the pooled ones.
    assert sum((row.counts for row in detection.per_domain.values()), Counts()) == detection.pooled.counts


def test_intervals_hold_the_value_and_one_case_has_none(rng):
    images = random_set(rng, images=30, cases=15)
    for row in (detection_score(images).pooled, types_score(images).pooled):
        for figure in row.figures.values():
            assert figure.low <= figure.value <= figure.high
    alone = detection_score([random_image(rng, "i", "c", crowd=30)])
    assert np.isnan(alone.pooled.figures["f1"].low)


def test_a_run_against_itself_differs_in_nothing_and_a_better_one_is_better(rng):
    images = random_set(rng, images=25, cases=12)
    same = compare(images, images)
    for figures in (same.detection, same.curves, same.types):
        assert figures
        assert all((one.value, one.low, one.high) == (0, 0, 0) for one in figures.values() if one)

    def perfect(image):
        scored = ScoredImage(image.scored.truth, image.scored.truth, np.ones(len(image.scored.truth)))
        return MeasuredImage(image.name, image.case, image.domain, image.region_type, 1.0,
                             count(scored.truth, scored.truth), scored, image.types)  # fmt: skip

    better = compare([perfect(image) for image in images], images)
    assert better.detection["f1"].low > 0
    assert better.curves["average_precision"].low > 0
    assert not better.detection["f1"].holds_zero


def test_differences_need_the_same_cases(rng):
    one, other = random_set(rng), random_set(rng, cases=1)
    assert differences(detection_statistics(one), detection_statistics(other)) == {}
    with pytest.raises(ValueError, match="same images"):
        compare(one, one[:-1])


def test_many_candidates_take_seconds(rng):
    images = []
    for number in range(20):
        truth = rng.uniform(0, 3000, (40, 2))
        predictions = np.concatenate([truth + rng.normal(0, 2, truth.shape), rng.uniform(0, 3000, (9960, 2))])
        scored = ScoredImage(truth, predictions, rng.random(len(predictions)))
        images.append(
            MeasuredImage(f"i{number}", f"c{number}", "D", "hotspot", 1.0, Counts(), scored, TypedFigures())
        )
    start = time.process_time()
    figures = curve_score(images, 0.0).pooled
    assert time.process_time() - start < 30
    assert figures["average_precision"].low <= figures["average_precision"].value
