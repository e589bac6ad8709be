"""A dataset comes back as it was written, and says so when it does not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from dataset_rows import AREA, IMAGE, OBJECT, write_small

from midog_qupath.dataset.folder import replacing
from midog_qupath.dataset.store import Dataset, DatasetMeta, write_dataset, write_pixels
from midog_qupath.errors import DatasetError


def test_rows_and_pixels_come_back(tmp_path: Path) -> None:
    region = replace(IMAGE, extent="regions", region_polygons=b"\x01\x00", labelled_mm2=0.25)
    voted = replace(OBJECT, role="atypical", votes_atypical=2, votes_total=3, cell=7, polygon=b"wkb")
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    write_pixels(tmp_path, AREA, pixels)
    write_dataset(tmp_path, DatasetMeta(ignored={"Stroma": 2}), [region], [OBJECT, voted], [AREA])

    dataset = Dataset.open(tmp_path)

    assert dataset.images == (region,)
    assert dataset.objects == (OBJECT, voted)
    assert dataset.areas == (AREA,)
    assert dataset.meta.ignored == {"Stroma": 2}
    assert dataset.image("a.png") is dataset.images[0]
    np.testing.assert_array_equal(dataset.pixels(AREA), pixels)
    assert not dataset.pixels(AREA).flags.writeable


def test_an_empty_dataset_keeps_its_columns(tmp_path: Path) -> None:
    write_dataset(tmp_path, DatasetMeta(), [], [], [])
    assert Dataset.open(tmp_path).objects == ()


def test_the_digest_depends_on_labels_and_pixels_and_nothing_else(tmp_path: Path) -> None:
    first, second = write_small(tmp_path / "one"), write_small(tmp_path / "elsewhere" / "two")
    assert first.sha256 == second.sha256

    write_pixels(second.folder, AREA, np.zeros((6, 8, 3), np.uint8))
    write_dataset(second.folder, DatasetMeta(), [IMAGE], [OBJECT], [AREA])
    assert Dataset.open(second.folder).sha256 != first.sha256

    write_small(second.folder)
    write_dataset(second.folder, DatasetMeta(), [IMAGE], [replace(OBJECT, x=1.0)], [AREA])
    assert Dataset.open(second.folder).sha256 != first.sha256


@pytest.mark.parametrize("name", ["objects.parquet", "images.parquet", "areas.parquet", "dataset.json"])
@pytest.mark.parametrize("keep", [None, 0, 40])
def test_a_missing_or_cut_table_is_named(tmp_path: Path, name: str, keep: int | None) -> None:
    write_small(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if keep is not None:
        (tmp_path / name).write_bytes(content[:keep])
    with pytest.raises(DatasetError, match=r"export"):
        Dataset.open(tmp_path)


def test_missing_or_cut_pixels_are_named(tmp_path: Path) -> None:
    dataset = write_small(tmp_path)
    path = tmp_path / AREA.file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"0000\.npy cannot be read"):
        dataset.pixels(AREA)
    with path.open("wb") as stream:
        np.save(stream, np.zeros((5, 8, 3), np.uint8))
    with pytest.raises(DatasetError, match="another size"):
        dataset.pixels(AREA)
    path.unlink()
    with pytest.raises(DatasetError, match=r"0000\.npy is missing"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("file", ["../outside.npy", "/etc/passwd", "pixels/../../outside.npy"])
def test_pixels_outside_the_folder_are_refused(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "dataset"
    write_small(folder)
    (tmp_path / "outside.npy").write_bytes((folder / AREA.file).read_bytes())
    meta, area = Dataset.open(folder).meta, replace(AREA, file=file)
    write_dataset(folder, meta, [IMAGE], [OBJECT], [area])
    with pytest.raises(DatasetError, match="missing"):
        Dataset.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema_version": 99}, "version 99"), ({"surprise": 1}, "surprise"), ({"mpp": "fine"}, "mpp")],
)
def test_other_metadata_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_small(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | change))
    with pytest.raises(DatasetError, match=message):
        Dataset.open(tmp_path)


def test_objects_of_an_unknown_image_are_refused(tmp_path: Path) -> None:
    dataset = write_small(tmp_path)
    write_dataset(tmp_path, dataset.meta, [IMAGE], [replace(OBJECT, image="b.png")], [AREA])
    with pytest.raises(DatasetError, match=r"b\.png"):
        Dataset.open(tmp_path)


def test_an_interrupted_replacement_leaves_the_old_dataset(tmp_path: Path) -> None:
    old = write_small(tmp_path / "dataset")
    with pytest.raises(KeyboardInterrupt), replacing(old.folder):
        raise KeyboardInterrupt
    assert Dataset.open(old.folder).sha256 == old.sha256
    assert os.listdir(tmp_path) == ["dataset"]


def test_a_finished_replacement_leaves_only_the_new_dataset(tmp_path: Path) -> None:
    old = write_small(tmp_path / "dataset")
    with replacing(old.folder) as new:
        write_dataset(new, DatasetMeta(), [], [], [])
    assert Dataset.open(old.folder).images == ()
    assert os.listdir(tmp_path) == ["dataset"]
    assert sorted(os.listdir(old.folder)) == [
        "areas.parquet",
        "dataset.json",
        "images.parquet",
        "objects.parquet",
    ]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    write_small(tmp_path)
    (tmp_path / "thesis.docx").write_text("years of work", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"thesis\.docx"), replacing(tmp_path):
        pytest.fail("went on")
    assert (tmp_path / "thesis.docx").is_file()
