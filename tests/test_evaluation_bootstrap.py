"""Intervals by case equal the plain definition: draw cases, pool their objects, compute the figure anew."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from midog_qupath.evaluation.bootstrap import (
    Interval,
    balanced_accuracy_statistic,
    bootstrap,
    case_index,
    f1_statistic,
    paired_bootstrap,
    roc_auc_statistic,
)
from midog_qupath.evaluation.curves import roc_auc
from midog_qupath.evaluation.metrics import Counts, TypeScore


@pytest.fixture
def rng():
    """Random numbers whose seed is shown when a test fails."""
    seed = int(np.random.default_rng().integers(2**32))
    sys.stdout.write(f"seed {seed}\n")
    return np.random.default_rng(seed)


def random_counts(rng, cases):
    return [Counts(*map(int, row)) for row in rng.integers(0, 9, (cases, 3))]


def drawn(rng, cases):
    """One resample: which cases, and the same as weights."""
    chosen = rng.integers(0, cases, cases)
    return chosen, np.bincount(chosen, minlength=cases)[None].astype(float)


def test_pooled_f1_of_drawn_cases(rng):
    counts = random_counts(rng, 12)
    for _ in range(20):
        chosen, weights = drawn(rng, 12)
        expected = sum((counts[c] for c in chosen), Counts()).f1
        assert f1_statistic(counts)(weights)[0] == pytest.approx(expected)


def test_balanced_accuracy_of_drawn_cases(rng):
    scores = [TypeScore(9, 5, int(a), int(b)) for a, b in rng.integers(0, 6, (10, 2))]
    for _ in range(20):
        chosen, weights = drawn(rng, 10)
        pooled = np.array([(scores[c].normal_right / 9, scores[c].atypical_right / 5) for c in chosen])
        assert balanced_accuracy_statistic(scores)(weights)[0] == pytest.approx(pooled.mean())


def test_roc_auc_of_drawn_cases(rng):
    case, positive, scores = rng.integers(0, 8, 90), rng.random(90) < 0.3, rng.integers(0, 12, 90) / 12
    case[:8], positive[:2] = range(8), (True, False)
    statistic = roc_auc_statistic(case, positive, scores)
    assert statistic(np.ones((1, 8)))[0] == pytest.approx(roc_auc(positive, scores))
    for _ in range(20):
        chosen, weights = drawn(rng, 8)
        objects = np.concatenate([np.flatnonzero(case == c) for c in chosen])
        expected = roc_auc(positive[objects], scores[objects])
        found = statistic(weights)[0]
        assert np.isnan(found) if expected is None else found == pytest.approx(expected)


def test_the_interval_is_the_middle_95_percent_and_always_the_same(rng):
    counts = random_counts(rng, 15)
    statistic = f1_statistic(counts)
    found = bootstrap(statistic, 15, seed=4)
    assert found == bootstrap(statistic, 15, seed=4)
    slow = []
    for _ in range(3000):
        slow.append(sum((counts[c] for c in rng.integers(0, 15, 15)), Counts()).f1)
    assert found.value == pytest.approx(sum(counts, Counts()).f1)
    assert found.low == pytest.approx(np.quantile(slow, 0.025), abs=0.03)
    assert found.high == pytest.approx(np.quantile(slow, 0.975), abs=0.03)


def test_cases_and_not_objects_are_drawn():
    # Two hundred objects of two cases know no more of other cases than two objects do.
    few = bootstrap(f1_statistic([Counts(1, 0, 0), Counts(0, 0, 1)]), 2)
    many = bootstrap(f1_statistic([Counts(100, 0, 0), Counts(0, 0, 100)]), 2)
    assert (few.low, few.high) == pytest.approx((0, 1), abs=1e-5)
    assert (many.low, many.high) == pytest.approx((0, 1), abs=1e-5)


def test_a_paired_difference_is_narrower_than_the_systems_themselves():
    # The cases differ widely, the second system finds one more in each: cases are drawn alike for both.
    old = [Counts(k, 0, 10 - k) for k in range(9)]
    new = [Counts(k + 1, 0, 9 - k) for k in range(9)]
    alone = bootstrap(f1_statistic(new), 9)
    difference = paired_bootstrap(f1_statistic(new), f1_statistic(old), 9)
    assert difference.low > 0
    assert not difference.holds_zero
    assert difference.high - difference.low < (alone.high - alone.low) / 3
    nothing = paired_bootstrap(f1_statistic(old), f1_statistic(old), 9)
    assert nothing == Interval(0, 0, 0)
    assert nothing.holds_zero


def test_what_cannot_be_measured_has_no_interval():
    assert bootstrap(f1_statistic([Counts(0, 3, 0), Counts(0, 1, 0)]), 2) is None
    assert bootstrap(balanced_accuracy_statistic([TypeScore(3, 0, 2, 0)] * 2), 2) is None
    with pytest.raises(ValueError, match="two cases"):
        bootstrap(f1_statistic([Counts(3, 1, 0)]), 1)
    # Resamples without a mitosis are left out.
    rare = [Counts(1, 0, 0), *[Counts(0, 1, 0)] * 4]
    assert bootstrap(f1_statistic(rare), 5).low > 0


def test_cases_are_numbered_by_name():
    names, index = case_index(["b", "a", "b"])
    assert names == ("a", "b")
    assert index.tolist() == [1, 0, 1]


def test_two_thousand_resamples_take_less_than_a_second(rng):
    counts = random_counts(rng, 170)
    case, positive, scores = rng.integers(0, 170, 3000), rng.random(3000) < 0.25, rng.random(3000)
    began = time.process_time()
    bootstrap(f1_statistic(counts), 170)
    paired_bootstrap(f1_statistic(counts), f1_statistic(counts[::-1]), 170)
    bootstrap(roc_auc_statistic(case, positive, scores), int(case.max()) + 1)
    assert time.process_time() - began < 1
