"""Tiles: geometry, determinism, and that nothing is seen across the cells of a mosaic."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_data import make_dataset

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.store import Dataset, DatasetMeta, write_dataset, write_pixels
from midog_qupath.learning.augment import place, warp
from midog_qupath.learning.ground import Ground, Spot, SpotSet, gather
from midog_qupath.learning.pseudo_masks import first_masks
from midog_qupath.learning.recipe import AugmentationRecipe, SamplingRecipe, TeacherRecipe
from midog_qupath.learning.tiles import TileSource
from midog_qupath.units import WORKING_MPP

STILL = AugmentationRecipe(
    flip=False,
    rotate=False,
    scale=(1, 1),
    shift_px=0,
    stain=0,
    brightness=0,
    blur=0,
    sharpen=0,
    noise=0,
    jpeg=0,
)


def _source(ground: Ground, augmentation: AugmentationRecipe, seed: int = 0) -> TileSource:
    ready = ground.with_maps([first_masks(area, TeacherRecipe(masks="disc")) for area in ground.areas])
    return TileSource(ready, SamplingRecipe(tile_px=96, batch=6), augmentation, 2, seed, SpotSet(()))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), x=st.floats(30, 70), y=st.floats(30, 70))
def test_an_object_appears_where_its_placement_says(seed: int, x: float, y: float) -> None:
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    ys, xs = np.mgrid[:100, :100] + 0.5
    image[np.hypot(xs - x, ys - y) < 5] = 255
    image = np.pad(image, ((60, 60), (60, 60), (0, 0)))
    quiet = AugmentationRecipe(shift_px=6)
    placement = place(np.random.default_rng(seed), (x + 60, y + 60), 64, quiet)
    tile = warp(image, placement)[..., 0].astype(float)
    seen_y, seen_x = np.argwhere(tile > 127).mean(axis=0) + 0.5
    (expected_x, expected_y) = placement.apply(np.array([[x + 60, y + 60]]))[0]
    assert abs(seen_x - expected_x) < 1.0
    assert abs(seen_y - expected_y) < 1.0


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    ground = gather([make_dataset(tmp_path / "d")], lambda row: row.split == "train", soft_labels=True)
    first, again = (_source(ground, AugmentationRecipe()).batch(7) for _ in range(2))
    other = _source(ground, AugmentationRecipe()).batch(8)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.targets, again.targets)
    assert not np.array_equal(first.images, other.images)


def test_some_steps_look_at_wide_tiles_in_which_objects_lie_anywhere(tmp_path: Path) -> None:
    ground = gather([make_dataset(tmp_path / "d")], lambda row: row.split == "train", soft_labels=True)
    sampling = SamplingRecipe(tile_px=96, batch=16, share_wide=0.25, wide_px=128, mitoses_from_fields=1)
    source = replace(_source(ground, AugmentationRecipe(), seed=2), sampling=sampling)
    batches = [source.batch(step) for step in range(40)]
    wide = [batch for batch in batches if batch.images.shape[1] == 128]
    assert {batch.images.shape for batch in batches} == {(16, 96, 96, 3), (9, 128, 128, 3)}
    assert len(wide) == 10
    places = np.concatenate([batch.positions[:, 1:] for batch in wide])
    # Every corner of the tile holds candidates, the middle no more than its part.
    quarters = Counter(map(tuple, (places > 64).tolist()))
    assert min(quarters.values()) > len(places) / 8
    assert (np.abs(places - 64).max(axis=1) < 24).mean() < 0.4
    assert np.array_equal(source.batch(3).images, batches[3].images)


def test_small_domains_and_atypical_mitoses_count_for_more_than_their_number() -> None:
    common = [Spot(0, 0.0, 0.0, 0, (0, 0, 9, 9), is_mitosis=True, atypical=0.0)] * 64
    atypical = [replace(common[0], atypical=1.0)] * 16
    elsewhere = [replace(common[0], domain=1, atypical=None)] * 4
    spots = SpotSet((*common, *atypical, *elsewhere))
    rng = np.random.default_rng(5)
    drawn = Counter(spots.draw(rng, True) for _ in range(7000))
    # The roots of 64, 16 and 4, of 14 in all.
    for spot, share in ((common[0], 8), (atypical[0], 4), (elsewhere[0], 2)):
        assert abs(drawn[spot] - 500 * share) < 200
    assert abs(sum(spots.draw(rng, False).kind == "atypical" for _ in range(4200)) - 800) < 120


def test_candidates_lie_on_their_objects(tmp_path: Path) -> None:
    ground = gather([make_dataset(tmp_path / "d")], lambda row: row.split == "train", soft_labels=True)
    batch = _source(ground, AugmentationRecipe(shift_px=8)).batch(1)
    for (index, y, x), target in zip(batch.positions, batch.candidate_target, strict=True):
        pixel_class = batch.targets[int(index), int(y / 2), int(x / 2)]
        assert pixel_class in ((3,) if target[0] == 0 else (1, 2))


def test_no_candidate_of_the_classifier_lies_at_the_border_of_its_tile(tmp_path: Path) -> None:
    ground = gather([make_dataset(tmp_path / "d")], lambda row: row.split == "train", soft_labels=True)
    maps = [first_masks(area, TeacherRecipe()) for area in ground.areas]
    sampling = SamplingRecipe(tile_px=96, batch=6)
    source = TileSource(ground.with_maps(maps), sampling, AugmentationRecipe(), 2, 0, SpotSet(()))
    batches = [source.batch(step) for step in range(20)]
    nuclei = np.concatenate([b.candidate_target[:, 0] == 1 for b in batches])
    assert nuclei.sum() > 20
    for batch in batches:
        places = batch.positions[:, 1:]
        assert ((places >= 12) & (places <= batch.images.shape[1] - 12)).all()


def _mosaic(folder: Path) -> Dataset:
    pixels = np.zeros((128, 256, 3), dtype=np.uint8)
    pixels[:, :128], pixels[:, 128:] = 200, 90
    area = AreaRow("mosaic", 0.0, 0.0, 1.0, 256, 128, "pixels/mosaic.npy")
    folder.mkdir()
    write_pixels(folder, area, pixels)
    image = ImageRow("mosaic", "mosaic", "d", 256, 128, WORKING_MPP, "objects", 128, None, 0.0, "train")
    objects = [
        ObjectRow(
            "mosaic",
            f"slide-{i}",
            "d",
            "Mitosis",
            "normal",
            64.0 + 128 * i,
            64.0,
            "rectangle",
            shapely.to_wkb(shapely.box(39 + 128 * i, 39, 89 + 128 * i, 89)),
            0,
            3,
            i,
            "train",
            str(i),
        )
        for i in range(2)
    ]
    write_dataset(folder, DatasetMeta(), [image], objects, [area])
    return Dataset.open(folder)


def test_nothing_is_seen_across_a_cell_border(tmp_path: Path) -> None:
    ground = gather([_mosaic(tmp_path / "m")], lambda row: True, soft_labels=True)
    moving = STILL.model_copy(update={"shift_px": 40.0, "rotate": True, "scale": (0.7, 1.4)})
    for step in range(5):
        batch = _source(ground, moving).batch(step)
        for tile in batch.images:
            values = set(np.unique(tile))
            assert values in ({200}, {90})


def test_only_the_labels_extent_of_a_mosaic_cell_is_known(tmp_path: Path) -> None:
    ground = gather([_mosaic(tmp_path / "m")], lambda row: True, soft_labels=True)
    target = _source(ground, STILL).batch(0).targets[0]
    known = np.argwhere(target != 255) * 2 - 96 / 2
    assert np.abs(known).max() <= 26
