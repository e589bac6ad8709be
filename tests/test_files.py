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


@pytest.mark.parametrize("name", ["folder", "n" * 254])
def test_errors_name_the_file_asked_for_and_no_temporary_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as raised, atomic_writer(tmp_path / name) as stream:
        stream.write(b"new")
    assert (raised.value.filename, raised.value.filename2) == (str(tmp_path / name), None)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    missing = tmp_path / "missing.bin"
    with pytest.raises(FileNotFoundError) as raised, atomic_writer(tmp_path / "a.bin") as stream:
        stream.write(missing.read_bytes())
    assert raised.value.filename == str(missing)
    assert not list(tmp_path.iterdir())
