"""Dice, intersection over union and AJI are what their definitions say; nuclei are told apart."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from midog_qupath.errors import EvaluationError
from midog_qupath.evaluation.masks import aggregated_jaccard, iou, pixel_dice, read_nuclei, score_nuclei
from midog_qupath.learning.nuclei import instances, interiors, nucleus_instances, otsu_instances
from midog_qupath.learning.stain import haematoxylin


def row(*numbers: int) -> np.ndarray:
    return np.array([numbers], dtype=np.int32)


def test_dice_and_iou_by_hand() -> None:
    one, other = row(1, 1, 1, 0) > 0, row(0, 1, 1, 1) > 0
    assert pixel_dice(one, other) == 4 / 6
    assert iou(one, other) == 2 / 4
    nothing = row(0, 0, 0, 0) > 0
    assert pixel_dice(nothing, nothing) == iou(nothing, nothing) == 1
    assert pixel_dice(one, nothing) == iou(one, nothing) == 0


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        (row(1, 1, 0, 2, 2), row(7, 7, 0, 3, 3), 1.0),  # numbers mean nothing
        (row(1, 1, 0, 2, 2), row(1, 1, 0, 0, 0), 2 / 4),  # a missed one counts
        (row(1, 1, 0, 0, 0), row(1, 1, 0, 2, 2), 2 / 4),  # an invented one counts
        (row(1, 1, 2, 2, 0), row(1, 1, 1, 1, 0), 4 / 8),  # two in one: its union counts twice
        (row(1, 1, 1, 0, 0), row(1, 1, 2, 2, 0), 2 / 5),  # one in two: the rest is an invented one
        (row(0, 0), row(0, 0), 1.0),
        (row(1, 0), row(0, 0), 0.0),
    ],
)
def test_aji_by_hand(truth: np.ndarray, predicted: np.ndarray, expected: float) -> None:
    assert aggregated_jaccard(truth, predicted) == expected


def aji_word_for_word(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Algorithm 1 of Kumar et al. 2017 with sets of pixels."""

    def sets(numbers: np.ndarray) -> list[set[int]]:
        return [set(np.flatnonzero(numbers == n).tolist()) for n in np.unique(numbers) if n]

    segmented, used, shared, union = sets(predicted), set(), 0, 0
    for nucleus in sets(truth):
        scores = [Fraction(len(nucleus & s), len(nucleus | s)) for s in segmented]
        if max(scores, default=0) == 0:
            union += len(nucleus)
            continue
        best = scores.index(max(scores))
        shared += len(nucleus & segmented[best])
        union += len(nucleus | segmented[best])
        used.add(best)
    union += sum(len(s) for i, s in enumerate(segmented) if i not in used)
    return shared / union if union else 1.0


numbered = arrays(np.int32, (4, 5), elements=st.integers(0, 4))


@settings(deadline=None, max_examples=150)
@given(truth=numbered, predicted=numbered)
def test_aji_is_the_published_algorithm(truth: np.ndarray, predicted: np.ndarray) -> None:
    assert aggregated_jaccard(truth, predicted) == aji_word_for_word(truth, predicted)


def test_a_folder_without_nuclei_or_with_half_of_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no outlined nuclei"):
        read_nuclei(tmp_path)
    cv2.imwrite(str(tmp_path / "a_instances.png"), np.ones((8, 8), np.uint16))
    with pytest.raises(EvaluationError, match=r"a\.png is missing"):
        read_nuclei(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), np.ones((8, 9, 3), np.uint8))
    with pytest.raises(EvaluationError, match="does not fit"):
        read_nuclei(tmp_path)


def discs(centres: list[tuple[int, int]], radius: int, size: int = 160) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    for centre in centres:
        cv2.circle(mask, centre, radius, 1, -1)
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)


def test_touching_nuclei_part_at_their_waist_and_single_ones_stay_whole() -> None:
    found = instances(discs([(40, 40), (62, 40), (110, 110)], 12))
    assert found.max() == 3
    assert len({found[40, 38], found[40, 64], found[110, 110]} - {0}) == 3
    assert pixel_dice(found > 0, discs([(40, 40), (62, 40), (110, 110)], 12) >= 0.5) > 0.95


def test_a_gap_is_left_where_nuclei_touch_and_nowhere_else() -> None:
    parts = np.zeros((6, 10), np.int32)
    parts[1:5, 1:5], parts[1:5, 5:9] = 1, 2
    inner = interiors(parts)
    assert not inner[:, 4:6].any()
    assert (inner | (np.arange(10) == 4) | (np.arange(10) == 5))[parts > 0].all()


def test_specks_and_whole_regions_are_no_nuclei() -> None:
    assert instances(discs([(80, 80)], 3)).max() == 0
    assert instances(np.ones((300, 300), np.float32)).max() == 0
    assert nucleus_instances(np.zeros((50, 50), np.float32)).max() == 0


def test_a_nucleus_on_the_border_of_two_blocks_is_one() -> None:
    wide = np.zeros((64, 4200), np.float32)
    cv2.circle(wide, (2048, 32), 12, 1, -1)
    cv2.circle(wide, (3000, 32), 12, 1, -1)
    found = instances(cv2.GaussianBlur(wide, (0, 0), 1.5))
    assert found.max() == 2
    assert abs(int((found == found[32, 2048]).sum()) - int((found == found[32, 3000]).sum())) < 40


@pytest.mark.realdata
def test_seeds_beat_otsu_on_real_nuclei(data_dir: Path) -> None:
    # Two of the eight fields: the others are measured by the experiments.
    for field in read_nuclei(data_dir / "nuclei")[3:5]:
        plain = score_nuclei(field, otsu_instances(field.image))
        seeds = score_nuclei(field, nucleus_instances(haematoxylin(field.image)))
        assert seeds.dice >= plain.dice - 0.005
        assert seeds.aji > plain.aji + 0.1
