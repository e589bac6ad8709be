"""Damaged slides are one clear error or are read; nothing else, and never a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from slide_images import smooth, write_pyramid, write_tiff

from midog_qupath.errors import SlideError
from midog_qupath.slides.open import open_slide


def damaged(raw: bytes, seed: int) -> bytes:
    """Cut short, or with some bits turned; every third time in the first kilobyte, where the structure is."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return raw[: int(rng.integers(1, len(raw)))]
    data = bytearray(raw)
    reach = 1024 if seed % 3 == 1 else len(raw)
    for place in rng.integers(0, min(reach, len(raw)), int(rng.integers(1, 20))):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def read_all(path: Path) -> str:
    """What became of reading every pixel at two resolutions: ``read`` or ``refused``."""
    try:
        with open_slide(path) as slide:
            for downsample in (1.0, 4.0):
                # As much as a small slide has, whatever the file now says.
                side = min(max(slide.width, slide.height), 4096)
                slide.read(0, 0, int(side / downsample) + 1, int(side / downsample) + 1, downsample)
    except SlideError:
        return "refused"
    return "read"


@pytest.mark.parametrize("kind", ["jpeg", "pyramid", "striped"])
def test_a_damaged_slide_is_read_or_refused(tmp_path, kind):
    path = tmp_path / "whole.tif"
    if kind == "pyramid":
        write_pyramid(path, smooth(300, 300), inside=False)
    elif kind == "jpeg":
        write_tiff(path, smooth(300, 300), tile=(64, 64), compression="jpeg")
    else:
        write_tiff(path, smooth(300, 300), rowsperstrip=16)
    raw = path.read_bytes()
    outcomes = {"read": 0, "refused": 0}
    for seed in range(25):
        file = tmp_path / f"{seed}.tif"
        file.write_bytes(damaged(raw, seed))
        outcomes[read_all(file)] += 1
        file.unlink()
    assert outcomes["refused"] > 0
