"""Files are whole or not there, and other libraries can write into one that is on its way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from midog_qupath.files import atomic_writer


def test_a_tiff_is_written_whole(tmp_path: Path) -> None:
    path, picture = tmp_path / "map.ome.tif", np.arange(64, dtype=np.uint8).reshape(8, 8)
    with atomic_writer(path) as stream, tifffile.TiffWriter(stream, bigtiff=True, ome=True) as writer:
        writer.write(picture)
    assert (tifffile.imread(path) == picture).all()
    assert [file.name for file in tmp_path.iterdir()] == ["map.ome.tif"]


def test_what_fails_half_way_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(TypeError), atomic_writer(path) as stream:
        stream.writelines([b"half", None])
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]
