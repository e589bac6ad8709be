"""Seeds and pseudo-masks stay inside their labels and are never empty."""

from pathlib import Path

import numpy as np
import pytest
from learning_data import make_dataset

from midog_qupath.learning.ground import Ground, gather
from midog_qupath.learning.pseudo_masks import first_masks, pseudo_masks
from midog_qupath.learning.seeds import IGNORE
from midog_qupath.models.student import BACKGROUND, NUCLEUS


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return gather([make_dataset(tmp_path / "data")], lambda row: row.split == "train", soft_labels=True)


@pytest.mark.parametrize("kind", ["teacher", "disc"])
def test_every_object_has_pixels_of_its_class_inside_its_extent(ground: Ground, kind: str) -> None:
    for area in ground.areas:
        pixels = first_masks(area, kind, nuclei=True)
        everywhere = np.zeros(pixels.shape, dtype=bool)
        for label in area.labels:
            y0, x0, y1, x1 = label.box
            inside = pixels[y0:y1, x0:x1] == label.pixel_class
            assert (inside & label.extent).sum() > 24
            everywhere[y0:y1, x0:x1] |= label.extent
        assert not np.isin(pixels[~everywhere], [2, 3]).any()


def test_seeds_find_nuclei_and_background_in_exhaustive_ground(ground: Ground) -> None:
    pixels = first_masks(ground.areas[0], "teacher", nuclei=True)
    assert 0.02 < (pixels == NUCLEUS).mean() < 0.3
    assert (pixels == BACKGROUND).mean() > 0.5


def test_outside_exhaustive_ground_nothing_but_labels_is_known(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", extent="objects")
    area = gather([data], lambda row: row.split == "train", soft_labels=True).areas[0]
    pixels = first_masks(area, "teacher", nuclei=True)
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
    pixels = pseudo_masks(area, opinion, confidence=0.65, nuclei=True)
    for label in area.labels:
        y0, x0, y1, x1 = label.box
        assert ((pixels[y0:y1, x0:x1] == label.pixel_class) & label.extent).any()
    unsure = {0.0: NUCLEUS, 0.5: IGNORE, 1.0: BACKGROUND}[background]
    assert pixels[0, 0] == unsure
