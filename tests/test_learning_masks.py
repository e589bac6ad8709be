"""Seeds and pseudo-masks stay inside their labels and are never empty."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from learning_data import make_dataset

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.store import Dataset, DatasetMeta, write_dataset, write_pixels
from midog_qupath.learning.ground import AreaGround, Ground, gather
from midog_qupath.learning.labels import area_labels, exhaustive_mask, rasterise
from midog_qupath.learning.mining import mine_area
from midog_qupath.learning.pseudo_masks import first_masks, pseudo_masks
from midog_qupath.learning.recipe import TeacherRecipe
from midog_qupath.learning.seeds import IGNORE
from midog_qupath.models.student import BACKGROUND, MITOSIS, NUCLEUS
from midog_qupath.units import WORKING_MPP


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return gather([make_dataset(tmp_path / "data")], lambda row: row.split == "train", soft_labels=True)


@pytest.mark.parametrize("kind", ["teacher", "disc"])
def test_every_object_has_pixels_of_its_class_inside_its_extent(ground: Ground, kind: str) -> None:
    for area in ground.areas:
        pixels = first_masks(area, TeacherRecipe.model_validate({"masks": kind}))
        everywhere = np.zeros(pixels.shape, dtype=bool)
        for label in area.labels:
            y0, x0, y1, x1 = label.box
            inside = pixels[y0:y1, x0:x1] == label.pixel_class
            assert (inside & label.extent).sum() > 24
            everywhere[y0:y1, x0:x1] |= label.extent
        assert not np.isin(pixels[~everywhere], [2, 3]).any()


def test_seeds_find_nuclei_and_background_in_exhaustive_ground(ground: Ground) -> None:
    pixels = first_masks(ground.areas[0], TeacherRecipe())
    assert 0.02 < (pixels == NUCLEUS).mean() < 0.3
    assert (pixels == BACKGROUND).mean() > 0.5


def test_outside_exhaustive_ground_nothing_but_labels_is_known(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", extent="objects")
    area = gather([data], lambda row: row.split == "train", soft_labels=True).areas[0]
    pixels = first_masks(area, TeacherRecipe())
    extents = np.zeros(pixels.shape, dtype=bool)
    for label in area.labels:
        y0, x0, y1, x1 = label.box
        extents[y0:y1, x0:x1] |= label.extent
    assert (pixels[~extents] == IGNORE).all()


@pytest.mark.parametrize("background", [0.0, 0.5, 1.0])
def test_pseudo_masks_keep_labels_whatever_the_teacher_says(ground: Ground, background: float) -> None:
    area = ground.areas[0]
    opinion = np.zeros((4, 96, 96), dtype=np.float16)
    opinion[0], opinion[1] = background, 1 - background
    pixels = pseudo_masks(area, opinion, TeacherRecipe())
    for label in area.labels:
        y0, x0, y1, x1 = label.box
        assert ((pixels[y0:y1, x0:x1] == label.pixel_class) & label.extent).any()
    unsure = {0.0: NUCLEUS, 0.5: IGNORE, 1.0: BACKGROUND}[background]
    assert pixels[0, 0] == unsure


def _mosaic_area(folder: Path) -> AreaGround:
    """One mosaic of two cells, each with a dark figure in its middle and a pale nucleus beside it."""
    pixels = np.full((128, 256, 3), (235, 190, 225), dtype=np.uint8)
    for x in (64, 192):
        cv2.ellipse(pixels, (x, 64), (12, 6), 0, 0, 360, (60, 30, 120), -1)
        cv2.circle(pixels, (x - 40, 28), 10, (130, 90, 170), -1)
    pixels[:, :8] = 0
    row = AreaRow("mosaic", 0.0, 0.0, 1.0, 256, 128, "pixels/mosaic.npy")
    folder.mkdir()
    write_pixels(folder, row, pixels)
    image = ImageRow("mosaic", "mosaic", "d", 256, 128, WORKING_MPP, "objects", 128, None, 0.0, "train")
    objects = [
        ObjectRow(
            "mosaic", f"s-{i}", "d", "Mitosis", "normal", 64.0 + 128 * i, 64.0, "rectangle",
            shapely.to_wkb(shapely.box(39 + 128 * i, 39, 89 + 128 * i, 89)), 0, 3, i, split, str(i),
        )
        for i, split in enumerate(("train", "test"))
    ]  # fmt: skip
    write_dataset(folder, DatasetMeta(), [image], objects, [row])
    data = Dataset.open(folder)
    return gather([data], lambda r: r.split == "train", soft_labels=True).areas[0]


def test_surroundings_of_a_mosaics_training_object_give_nuclei_and_those_of_others_nothing(
    tmp_path: Path,
) -> None:
    pixels = first_masks(_mosaic_area(tmp_path / "m"), TeacherRecipe())
    assert pixels[28, 24] == NUCLEUS
    assert pixels[100, 24] == BACKGROUND
    assert pixels[64, 64] == MITOSIS
    assert (pixels[:, :8] == IGNORE).all(), "padding is no tissue"
    assert (pixels[:, 128:] == IGNORE).all(), "the other cell's object is not for training"
    without = first_masks(_mosaic_area(tmp_path / "n"), TeacherRecipe(surroundings=False))
    assert without[28, 24] == IGNORE


def test_the_student_learns_nothing_from_surroundings_that_the_teacher_takes_for_a_mitosis(
    tmp_path: Path,
) -> None:
    area = _mosaic_area(tmp_path / "m")
    opinion = np.zeros((4, 32, 64), dtype=np.float16)
    opinion[0] = 1.0
    opinion[:, 5:9, 4:8] = np.array([0.0, 1.0, 0.0, 0.0])[:, None, None]
    sure = pseudo_masks(area, opinion, TeacherRecipe())
    assert sure[28, 24] == NUCLEUS
    opinion[:, 5:9, 4:8] = np.array([0.0, 0.05, 0.0, 0.95])[:, None, None]
    doubted = pseudo_masks(area, opinion, TeacherRecipe())
    assert doubted[28, 24] == IGNORE
    assert doubted[64, 64] == MITOSIS


def test_an_object_at_the_border_of_two_blocks_is_no_negative_in_the_one_without_its_label() -> None:
    image = ImageRow("i", "i", "d", 400, 200, WORKING_MPP, "whole", None, None, 0.002, "train")
    outline = shapely.to_wkb(shapely.Point(197, 100).buffer(12))
    row = ObjectRow(
        "i", "i", "d", "x", "normal", 197.0, 100.0, "polygon", outline, None, None, None, "train", "1"
    )
    left, right = (AreaRow("i", x0, 0.0, 1.0, 200, 200, "") for x0 in (0.0, 200.0))
    assert [len(area_labels(area, [row])) for area in (left, right)] == [1, 0]
    assert exhaustive_mask(left, image, [row]).all()
    known = exhaustive_mask(right, image, [row])
    ys, xs = np.mgrid[:200, :200] + 0.5
    assert not known[np.hypot(xs + 200 - 197, ys - 100) < 20].any()
    assert known[np.hypot(xs + 200 - 197, ys - 100) > 50].all()


def test_an_extent_lies_where_its_outline_was_drawn() -> None:
    disc = shapely.Point(30.5, 40.25).buffer(12)
    mask = rasterise(disc, (0, 0, 80, 60))
    ys, xs = np.argwhere(mask).T + 0.5
    assert abs(xs.mean() - 30.5) < 0.15
    assert abs(ys.mean() - 40.25) < 0.15
    centres = shapely.points(*(np.mgrid[:60, :80] + 0.5))
    assert mask.T[shapely.contains(disc, centres)].all()


def test_every_peak_of_a_field_that_no_label_explains_is_mined(ground: Ground) -> None:
    area = ground.areas[0]
    mitosis = np.zeros((area.row.height // 4, area.row.width // 4), dtype=np.float16)
    for label in area.labels:
        mitosis[int(label.y) // 4, int(label.x) // 4] = 1.0
    assert not mine_area(0, area, mitosis)
    known = np.array([(label.x, label.y) for label in area.labels])
    ys, xs = np.mgrid[40 : area.row.height - 40 : 8, 40 : area.row.width - 40 : 8].reshape(2, -1)
    x, y = next((x, y) for x, y in zip(xs, ys, strict=True) if np.hypot(*(known - (x, y)).T).min() > 60)
    mitosis[y // 4, x // 4] = 0.99
    (found,) = mine_area(0, area, mitosis)
    assert np.hypot(found.x - x, found.y - y) < 4
    # Half precision makes a plateau of what the network is sure of: one look-alike all the same.
    mitosis[y // 4 - 1 : y // 4 + 2, x // 4 - 1 : x // 4 + 2] = 0.99
    assert len(mine_area(0, area, mitosis)) == 1
