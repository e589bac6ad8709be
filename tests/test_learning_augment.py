"""Colours and chance of training tiles: what an augmentation changes, and what it leaves."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midog_qupath.learning.augment import recolour
from midog_qupath.learning.chance import Odds
from midog_qupath.learning.recipe import AugmentationRecipe
from midog_qupath.learning.stain import haematoxylin, restained, stain_matrix

OFF = AugmentationRecipe(stain=0, brightness=0, blur=0, sharpen=0, noise=0, jpeg=0)


def _tissue(seed: int) -> np.ndarray:
    """A tile of random colours between dark nuclei and glass."""
    return np.random.default_rng(seed).integers(20, 250, (48, 48, 3)).astype(np.uint8)


def test_the_same_stains_through_the_same_dyes_are_the_same_image() -> None:
    image = _tissue(0)
    again = restained(image, np.ones(3), stain_matrix())
    assert np.abs(again - image).max() < 0.1


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_an_amount_of_haematoxylin_scales_haematoxylin(factor: float) -> None:
    # Of dyes alone, so pale that no colour leaves the range of a pixel.
    amounts = np.random.default_rng(1).uniform(0.1, 0.4, (48, 48, 2))
    image = (256 * 10 ** -(amounts @ stain_matrix()[:2]) - 1).round().astype(np.uint8)
    other = restained(image, np.array([factor, 1, 1]), stain_matrix()).round().astype(np.uint8)
    assert np.abs(haematoxylin(other) - factor * haematoxylin(image)).max() < 0.03


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_a_recoloured_tile_keeps_its_shape_and_depends_on_the_seed_alone(seed: int) -> None:
    first, again = (
        recolour(np.random.default_rng(seed), _tissue(seed), AugmentationRecipe()) for _ in range(2)
    )
    assert first.shape == (48, 48, 3)
    assert first.dtype == np.uint8
    assert (first == again).all()


def test_with_everything_off_a_tile_is_left_alone() -> None:
    assert (recolour(np.random.default_rng(0), _tissue(0), OFF) == _tissue(0)).all()


@pytest.mark.parametrize("part", ["brightness", "blur", "sharpen", "noise", "jpeg", "stain"])
def test_each_part_changes_a_tile(part: str) -> None:
    recipe = OFF.model_copy(update={part: getattr(AugmentationRecipe(), part)})
    tiles = [recolour(np.random.default_rng(seed), _tissue(0), recipe) for seed in range(12)]
    assert any((tile != _tissue(0)).any() for tile in tiles)


def test_chances_are_in_proportion_to_the_weights() -> None:
    rng, odds = np.random.default_rng(0), Odds.of([0, 1, 0, 3, 0])
    drawn = Counter(odds.draw(rng) for _ in range(4000))
    assert set(drawn) == {1, 3}
    assert drawn[3] / drawn[1] == pytest.approx(3, rel=0.15)
