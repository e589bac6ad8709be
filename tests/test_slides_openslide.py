"""Slides of scanner makers: QuPath's coordinates, the file's pixel size, damage noticed."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from midog_qupath.errors import SlideError
from midog_qupath.slides.base import PixelSize
from midog_qupath.slides.open import open_slide
from midog_qupath.slides.openslide_reader import bounds, slide_pixel_size

SCANNED = {
    "openslide.bounds-x": "120",
    "openslide.bounds-y": "4000",
    "openslide.bounds-width": "900",
    "openslide.bounds-height": "700",
}


@pytest.mark.parametrize(
    ("properties", "args", "expected"),
    [
        (SCANNED, (), (120, 4000, 900, 700)),
        (SCANNED, ("--no-crop",), (0, 0, 10_000, 8_000)),
        ({}, (), (0, 0, 10_000, 8_000)),
        ({**SCANNED, "openslide.bounds-width": "wide"}, (), (0, 0, 10_000, 8_000)),
        ({"openslide.bounds-x": "120", "openslide.bounds-y": "7"}, (), (0, 0, 10_000, 8_000)),
    ],
)
def test_slides_are_cropped_to_their_bounds_as_in_qupath(
    properties: dict[str, str], args: tuple[str, ...], expected: tuple[int, int, int, int]
) -> None:
    assert bounds(properties, (10_000, 8_000), args) == expected


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"openslide.mpp-x": "0.2527", "openslide.mpp-y": "0.2531"}, PixelSize(0.2527, 0.2531)),
        ({"openslide.objective-power": "40"}, PixelSize(0.25, 0.25, guessed=True)),
        ({"openslide.mpp-x": "0.25", "openslide.objective-power": "20"}, PixelSize(0.5, 0.5, guessed=True)),
        ({"openslide.mpp-x": "352.8", "openslide.mpp-y": "352.8"}, None),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "inf", "openslide.objective-power": "0"}, None),
        ({}, None),
    ],
)
def test_pixel_size_of_a_slide(properties: dict[str, str], expected: PixelSize | None) -> None:
    assert slide_pixel_size(properties) == expected


@pytest.mark.realdata
def test_real_slides(data_dir: Path) -> None:
    with open_slide(data_dir / "slides" / "cmu-1-small-region.svs") as slide:
        assert (slide.width, slide.height, slide.file_mpp) == (2220, 2967, 0.499)
        assert slide.facts.magnification == 20
        whole = slide.read(0, 0, 2220, 2967, 1.0)
        assert np.array_equal(slide.read(700, 900, 300, 200, 1.0), whole[900:1100, 700:1000])
        corner = slide.read(-50, 2900, 100, 100, 1.0)
        assert np.array_equal(corner[:67, 50:], whole[2900:, :50])
        assert (corner[67:] == 255).all()
        assert (corner[:, :50] == 255).all()
        with pickle.loads(pickle.dumps(slide)) as other:
            assert np.array_equal(other.read(700, 900, 50, 50, 1.0), whole[900:950, 700:750])
    with open_slide(data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs") as slide:
        assert slide.file_mpp is None
        assert [level.downsample for level in slide.facts.levels] == [1, 2]
        # The second level is the file's own copy: alike, and not shifted even far from the corner.
        fine = slide.read(3500, 2800, 800, 600, 1.0).reshape(300, 2, 400, 2, 3).mean(axis=(1, 3, 4))
        coarse = slide.read(3500, 2800, 400, 300, 2.0).mean(axis=2)
        shift, _ = cv2.phaseCorrelate(fine, coarse, cv2.createHanningWindow((400, 300), cv2.CV_64F))
        assert np.abs(shift).max() < 0.25


@pytest.mark.realdata
@pytest.mark.parametrize("share", [0.0005, 0.2, 0.6, 0.99])
def test_truncated_slides_are_noticed(data_dir: Path, tmp_path: Path, share: float) -> None:
    data = (data_dir / "slides" / "cmu-1-small-region.svs").read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match=r"cut\.svs"), open_slide(path) as slide:
        slide.read(0, 0, 2220, 2967, 1.0)


@pytest.mark.realdata
def test_random_text_under_a_slides_name(data_dir: Path) -> None:
    with pytest.raises(SlideError, match=r"broken\.svs cannot be opened as a slide"):
        open_slide(data_dir / "slides" / "broken.svs")
