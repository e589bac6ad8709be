"""Damaged slides are one clear error or are read; the others of a run go on. More: ``./run bench damage``."""

from __future__ import annotations

import pytest
from damage import damaged, read_all
from slide_images import smooth, write_pyramid, write_tiff


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
