"""``info --thumbnail`` shows what is searched."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from inference_standin import Command, painted_project


def test_thumbnails_show_the_outline_of_the_tissue(tmp_path, monkeypatch, capsys):
    pixels = np.full((900, 1200, 3), 243, np.uint8)
    pixels[300:600, 400:800] = (200, 140, 190)
    project = painted_project(tmp_path / "p", {"a.png": pixels, "b.png": pixels}, mpp=4.0)
    (project.folder / "images" / "b.png").write_bytes(b"")
    _, _, err = Command(monkeypatch, capsys)("info", project.path, "--thumbnail", tmp_path / "t")
    assert "b.png" in err
    picture = cv2.imread(str(tmp_path / "t" / "a.png"))
    assert picture.shape == (450, 600, 3)
    rows, columns = np.nonzero((picture == (0, 200, 0)).all(axis=2))
    assert (rows.min(), rows.max()) == pytest.approx((150, 300), abs=8)
    assert (columns.min(), columns.max()) == pytest.approx((200, 400), abs=8)
