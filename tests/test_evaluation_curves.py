"""Figures over all thresholds equal the challenge's definitions, computed slowly."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from midog_qupath.evaluation.curves import (
    average_precision,
    froc,
    froc_auc,
    precision_recall,
    roc_auc,
)
from midog_qupath.evaluation.metrics import ScoredImage, best_threshold, pooled, sweep


@pytest.fixture
def rng():
    """Random numbers whose seed is shown when a test fails."""
    seed = int(np.random.default_rng().integers(2**32))
    sys.stdout.write(f"seed {seed}\n")
    return np.random.default_rng(seed)


def points(*pairs):
    return np.array(pairs, dtype=float).reshape(-1, 2)


def image(truth, predictions, probabilities):
    return ScoredImage(points(*truth), points(*predictions), np.array(probabilities, dtype=float))


def random_images(rng, images=6, crowd=12, side=60.0, steps=8):
    """Crowded images: truths share predictions, probabilities tie, positions fall on a grid in some."""
    made = []
    for _ in range(images):
        truth, predictions = (rng.uniform(0, side, (rng.integers(0, crowd), 2)) for _ in range(2))
        if rng.random() < 0.5:
            truth, predictions = truth.round(), predictions.round()
        made.append(ScoredImage(truth, predictions, rng.integers(1, steps, len(predictions)) / steps))
    return made


def slow_average_precision(images):
    """COCO's evaluation in its own words: one class, all sizes, no limit of detections."""
    scores, hits = [], []
    for one in images:
        truth = one.truth[np.lexsort((one.truth[:, 0], one.truth[:, 1]))]
        taken = set()
        for index in sorted(range(len(one.predictions)), key=lambda i: -one.probabilities[i]):
            best, chosen = 0.5, None
            for t, (x, y) in enumerate(truth):
                dx, dy = abs(one.predictions[index] - (x, y))
                shared = max(22.5 - dx, 0) * max(22.5 - dy, 0)
                iou = shared / (2 * 22.5**2 - shared)
                if t not in taken and iou >= best:
                    best, chosen = iou, t
            taken.add(chosen)
            scores.append(one.probabilities[index])
            hits.append(chosen is not None)
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    mitoses, found, recall, precision = sum(len(one.truth) for one in images), 0, [], []
    for rank, index in enumerate(order, start=1):
        found += hits[index]
        recall.append(found / mitoses)
        precision.append(found / rank)
    at = [
        max((p for p, r in zip(precision, recall, strict=True) if r >= t), default=0)
        for t in np.arange(0, 1.01, 0.01)
    ]
    return sum(at) / len(at)


def slow_froc_auc(images, most=8):
    """As the challenge's evaluation code has it."""
    scores = np.concatenate([one.probabilities for one in images])
    curve = []
    for threshold in np.linspace(scores.min(), scores.max(), 40):
        counts = pooled(images, threshold)
        curve.append((counts.fp / len(images), counts.tp / (counts.tp + counts.fn + 1e-6)))
    fp, recall = np.array(sorted(curve)).T
    at = np.linspace(0, most, 50)
    y = np.interp(at, fp, recall, left=0, right=recall[-1])
    return float(((y[1:] + y[:-1]) / 2 * np.diff(at)).sum())


def test_average_precision_by_hand():
    # Hits at ranks 1 and 3 of 2 mitoses: precision 1 up to recall 0.5 (51 points), then 2/3 (50 points).
    one = image([(0, 0), (100, 0)], [(1, 0), (50, 50), (100, 2)], [0.9, 0.8, 0.7])
    assert average_precision([one]) == pytest.approx((51 + 50 * 2 / 3) / 101)
    # Boxes of 22.5 um overlap by half when their centres are 7.5 um apart along one axis.
    assert average_precision([image([(0, 0)], [(7.4, 0)], [1])]) == pytest.approx(1)
    assert average_precision([image([(0, 0)], [(7.6, 0)], [1])]) == 0
    assert average_precision([image([(0, 0)], [(5.2, 5.2)], [1])]) == 0
    assert average_precision([image([(0, 0)], [], [])]) == 0
    assert average_precision([image([], [(0, 0)], [1])]) is None


def test_froc_auc_by_hand():
    # Recall 0.5 without a false positive, 1 from one a image on: 0.5 + 0.5 * (1 at 8 - triangle 0..1).
    one = image([(0, 0), (100, 0)], [(0, 0), (50, 50), (100, 0)], [1.0, 0.5, 0.5])
    assert froc_auc(sweep([one])) == pytest.approx(7.75, abs=0.02)
    assert froc_auc(sweep([image([(0, 0)], [(0, 0)], [0.3])])) == pytest.approx(8, abs=1e-4)
    assert froc_auc(sweep([image([], [(0, 0)], [0.3])])) is None
    assert froc_auc(sweep([image([(0, 0)], [], [])])) is None


def test_froc_counts_false_positives_per_square_millimetre():
    one = image([(0, 0), (100, 0)], [(0, 0), (50, 50), (100, 0), (60, 90)], [0.9, 0.8, 0.7, 0.6])
    curve = froc(sweep([one]), mm2=0.5)
    assert curve.fp_per_mm2.tolist() == [0, 2, 2, 4]
    assert curve.sensitivity.tolist() == [0.5, 0.5, 1, 1]
    assert [curve.at(fp) for fp in (0, 1.9, 2, 100)] == [0.5, 0.5, 1, 1]
    assert froc(sweep([image([(0, 0)], [(50, 50)], [1])]), 1.0).at(0.5) == 0
    assert froc(sweep([one]), 0.0) is None


def test_precision_and_recall_at_every_threshold():
    one = image([(0, 0), (100, 0)], [(0, 0), (50, 50), (100, 0)], [0.9, 0.5, 0.5])
    curve = precision_recall(sweep([one]))
    assert curve.thresholds.tolist() == [0.9, 0.5]
    assert curve.precision == pytest.approx([1, 2 / 3])
    assert curve.recall == pytest.approx([0.5, 1])


def test_a_new_prediction_can_push_another_to_a_later_truth():
    # The second prediction takes the upper truth from the first, which then hits the lower one.
    one = image([(0, 0), (0, 10)], [(0, 6), (0, 1)], [0.9, 0.8])
    assert sweep([one]).tp.tolist() == [1, 2]


@pytest.mark.parametrize("_", range(20))
def test_the_sweep_counts_what_matching_counts_at_each_threshold(rng, _):
    images = random_images(rng)
    swept = sweep(images)
    for threshold in [0.0, *np.unique(rng.random(5)), *(k / 8 for k in range(1, 8)), 1.0]:
        assert swept.at(threshold) == pooled(images, threshold)


@pytest.mark.parametrize("_", range(20))
def test_curves_equal_their_slow_definitions(rng, _):
    images = [*random_images(rng), image([(0, 0)], [(3, 3)], [0.5])]
    assert average_precision(images) == pytest.approx(slow_average_precision(images), abs=1e-12)
    assert froc_auc(sweep(images)) == pytest.approx(slow_froc_auc(images), abs=1e-9)


@pytest.mark.parametrize("_", range(5))
def test_the_best_threshold_is_the_best_of_all(rng, _):
    images = [*random_images(rng), image([(0, 0)], [(3, 3)], [0.5])]
    threshold, counts = best_threshold(images)
    assert counts == pooled(images, threshold)
    assert counts.f1 == pytest.approx(max(pooled(images, k / 8).f1 for k in range(9)))


def test_average_precision_equals_the_reference_library(rng):
    pytest.importorskip("pycocotools")
    detection = pytest.importorskip("torchmetrics.detection.mean_ap")
    torch = pytest.importorskip("torch")
    images = [*random_images(rng, steps=10**6), image([(0, 0)], [(3, 3)], [0.5])]
    metric = detection.MeanAveragePrecision(
        max_detection_thresholds=[1, 10, 10**6], rec_thresholds=np.arange(0, 1.01, 0.01).tolist()
    )

    def boxes(centres):
        return torch.tensor(np.concatenate([centres - 11.25, centres + 11.25], axis=1), dtype=torch.float32)

    def ones(number):
        return torch.ones(number, dtype=torch.int)

    for one in images:
        scores = torch.tensor(one.probabilities, dtype=torch.float32)
        found = {"boxes": boxes(one.predictions), "scores": scores, "labels": ones(len(scores))}
        metric.update([found], [{"boxes": boxes(one.truth), "labels": ones(len(one.truth))}])
    assert average_precision(images) == pytest.approx(float(metric.compute()["map_50"]), abs=1e-6)


def test_area_under_the_roc_curve_counts_pairs(rng):
    assert roc_auc(np.array([True, False]), np.array([0.7, 0.7])) == 0.5
    assert roc_auc(np.array([True, True]), np.array([0.7, 0.7])) is None
    positive, scores = rng.random(60) < 0.4, rng.integers(0, 10, 60) / 10
    positive[:2] = True, False
    pairs = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert roc_auc(positive, scores) == pytest.approx(np.mean(pairs))


def test_thousands_of_candidates_take_no_time(rng):
    images = [
        ScoredImage(rng.uniform(0, 1000, (60, 2)), rng.uniform(0, 1000, (1000, 2)), rng.random(1000))
        for _ in range(5)
    ]
    began = time.process_time()
    swept = sweep(images)
    assert froc_auc(swept) is not None
    assert average_precision(images) is not None
    assert best_threshold(images)[0] > 0
    assert time.process_time() - began < 1
    assert sweep(images).at(0) == pooled(images, 0)
