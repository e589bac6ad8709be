"""Objects set into tiles: where they go, what they change, and what they bring along."""

from pathlib import Path

import numpy as np
import pytest
from learning_data import make_dataset

from midog_qupath.learning.ground import SpotSet, gather
from midog_qupath.learning.paste import PATCH_PX, Scene, find_place, set_in
from midog_qupath.learning.pseudo_masks import first_masks
from midog_qupath.learning.recipe import AugmentationRecipe, SamplingRecipe, TeacherRecipe
from midog_qupath.learning.tiles import TileSource

HALF = PATCH_PX // 2


def _scene(size: int, grey: int, label: int, domain: int) -> Scene:
    return Scene(
        np.full((size, size, 3), grey, dtype=np.uint8),
        np.full((size, size), label, dtype=np.uint8),
        np.full((size, size), domain, dtype=np.int32),
    )


@pytest.mark.parametrize("seed", range(5))
def test_what_is_set_in_changes_its_disc_alone_and_brings_labels_and_domain(seed: int) -> None:
    scene, patch = _scene(192, 200, 0, 1), _scene(PATCH_PX, 190, 3, 2)
    patch.image[HALF - 5 : HALF + 5, HALF - 5 : HALF + 5] = 40
    set_in(np.random.default_rng(seed), scene, patch, (100, 60))
    ys, xs = np.mgrid[:192, :192] + 0.5
    away = np.hypot(ys - 100, xs - 60)
    assert (scene.image[away > 30] == 200).all()
    assert (scene.labels[away < 15] == 3).all()
    assert (scene.domains[away < 15] == 2).all()
    assert (scene.labels[away > 30] == 0).all()
    assert (scene.domains[away > 30] == 1).all()
    # As light as the tile around it, but for what it shows.
    assert abs(int(scene.image[100, 68, 0]) - 200) <= 2
    assert scene.image[100, 60, 0] < 60


def test_nothing_labelled_is_covered_and_dark_things_go_where_it_is_dark() -> None:
    scene, patch = _scene(192, 240, 0, 0), _scene(PATCH_PX, 120, 3, 0)
    scene.image[:, 96:] = 120
    rng = np.random.default_rng(1)
    places = [find_place(rng, scene, patch, [(160.0, 150.0)]) for _ in range(20)]
    found = np.array([place for place in places if place is not None])
    assert len(found) > 15
    assert (np.hypot(*(found - (160, 150)).T) >= PATCH_PX).all()
    assert (found[:, 1] > 96).mean() > 0.8
    everywhere = [(float(y), float(x)) for y in range(0, 192, 24) for x in range(0, 192, 24)]
    assert find_place(rng, scene, patch, everywhere) is None


def test_wide_tiles_show_what_lies_elsewhere_under_its_own_label_and_domain(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "d", roles=("normal", "non_mitosis"))
    ground = gather([data], lambda row: row.split == "train", soft_labels=True)
    ready = ground.with_maps([first_masks(area, TeacherRecipe(masks="disc")) for area in ground.areas])
    sampling = SamplingRecipe(tile_px=64, batch=16, share_wide=1, wide_px=192)
    source = TileSource(ready, sampling, AugmentationRecipe(), 2, 0, SpotSet(()))
    batches = [source.batch(step) for step in range(6)]
    # A field of this dataset has two labelled objects, and hardly fits into a wide tile.
    assert sum(len(b.positions) for b in batches) > 3 * 6 * source.sampling.wide_batch
    for batch in batches:
        for (index, y, x), target in zip(batch.positions, batch.candidate_target, strict=True):
            pixel_class = batch.targets[int(index), int(y / 2), int(x / 2)]
            assert pixel_class in ((3, 255) if target[0] == 0 else (1, 2, 255))
    # Both domains meet in one tile.
    mixed = [
        {int(batch.component_domain[n - 1]) for n in np.unique(tile) if n}
        for batch in batches
        for tile in batch.components
    ]
    assert {0, 1} in mixed
