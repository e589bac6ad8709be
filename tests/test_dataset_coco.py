"""What other tools read from the COCO files is what the dataset holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest
import shapely
from dataset_rows import IMAGE, OBJECT

from midog_qupath.dataset.coco import write_coco
from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.store import Dataset, DatasetMeta, write_dataset, write_pixels
from midog_qupath.progress import SILENT


def a_dataset(folder: Path, image: ImageRow, objects: list[ObjectRow], downsample: float = 1.0) -> Dataset:
    """One block that covers the whole image."""
    width, height = round(image.width / downsample), round(image.height / downsample)
    area = AreaRow(image.name, 0.0, 0.0, downsample, width, height, "pixels/00000.npy")
    pixels = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    write_pixels(folder, area, pixels)
    write_dataset(folder, DatasetMeta(), [image], objects, [area])
    return Dataset.open(folder)


def read(folder: Path, split: str = "train") -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((folder / f"{split}.json").read_bytes())
    return found


def test_tiles_cover_a_whole_image_and_every_object_stands_once(tmp_path: Path) -> None:
    image = replace(IMAGE, width=1360, height=1024)
    rows = [replace(OBJECT, x=x, y=100.0, source_id=str(x)) for x in (10.0, 511.0, 513.0, 1359.0)]
    dataset = a_dataset(tmp_path / "d", image, rows)

    write_coco(dataset, tmp_path / "coco", SILENT)

    found = read(tmp_path / "coco")
    assert Counter((t["width"], t["height"]) for t in found["images"]) == {(512, 512): 4, (336, 512): 2}
    assert [a["source_id"] for a in found["annotations"]] == ["10.0", "511.0", "513.0", "1359.0"]
    sizes = {t["id"]: (t["width"], t["height"]) for t in found["images"]}
    for annotation in found["annotations"]:
        x, y, w, h = annotation["bbox"]
        width, height = sizes[annotation["image_id"]]
        assert x >= 0
        assert y >= 0
        assert w > 0
        assert x + w <= width
        assert y + h <= height
    assert found["annotations"][1]["bbox"] == [486.0, 75.0, 26.0, 50.0]  # 511 +- 25, cut at 512
    assert read(tmp_path / "coco", "val") == {
        "images": [],
        "categories": found["categories"],
        "annotations": [],
    }


def test_tiles_are_the_datasets_pixels(tmp_path: Path) -> None:
    dataset = a_dataset(tmp_path / "d", replace(IMAGE, width=600, height=300), [OBJECT])
    write_coco(dataset, tmp_path / "coco", SILENT)
    second = read(tmp_path / "coco")["images"][1]
    tile = cv2.imread(str(tmp_path / "coco" / second["file_name"]))
    assert tile is not None
    np.testing.assert_array_equal(tile[:, :, ::-1], dataset.pixels(dataset.areas[0])[:, 512:])


def test_a_mosaic_gives_one_tile_for_each_cell_with_an_object_in_its_own_split(tmp_path: Path) -> None:
    image = replace(IMAGE, width=384, height=256, cell_px=128, extent="objects")
    rows = [
        replace(OBJECT, x=64.0, y=64.0, case="slide 1", label="Mitosis: Normal", role="normal"),
        replace(
            OBJECT, x=192.0, y=192.0, case="slide 2", split="test", label="Mitosis: Atypical", role="atypical"
        ),
    ]
    write_coco(a_dataset(tmp_path / "d", image, rows), tmp_path / "coco", SILENT)

    train, test = read(tmp_path / "coco"), read(tmp_path / "coco", "test")
    assert [(t["x"], t["y"], t["width"], t["case"]) for t in train["images"]] == [(0, 0, 128, "slide 1")]
    assert [(t["x"], t["y"], t["width"], t["case"]) for t in test["images"]] == [(128, 128, 128, "slide 2")]
    assert [c["name"] for c in test["categories"]] == ["Mitosis: Atypical", "Mitosis: Normal"]
    assert test["annotations"][0]["category_id"] == 1


def test_outlines_are_moved_scaled_and_clipped(tmp_path: Path) -> None:
    outline = shapely.Polygon([(250, 10), (270, 10), (270, 30)])
    row = replace(OBJECT, x=260.0, y=20.0, polygon=outline.wkb, shape="polygon")
    image = replace(IMAGE, width=600, height=100)
    write_coco(a_dataset(tmp_path / "d", image, [row], downsample=0.5), tmp_path / "coco", SILENT)
    (annotation,) = read(tmp_path / "coco")["annotations"]
    assert annotation["bbox"] == [0.0, 20.0, 28.0, 40.0]  # the tile begins at 512: slide 256
    corners = {tuple(p) for p in np.reshape(annotation["segmentation"][0], (-1, 2)).tolist()}
    assert corners == {(0.0, 20.0), (28.0, 20.0), (28.0, 60.0), (0.0, 32.0)}
    assert annotation["area"] == pytest.approx((40 + 12) / 2 * 28)


def test_tiles_outside_regions_and_without_objects_are_left_out(tmp_path: Path) -> None:
    image = replace(
        IMAGE, width=2048, height=512, extent="regions", region_polygons=shapely.box(0, 0, 300, 300).wkb
    )
    dataset = a_dataset(tmp_path / "d", image, [replace(OBJECT, x=1500.0, y=50.0)])
    write_coco(dataset, tmp_path / "coco", SILENT)
    assert [tile["x"] for tile in read(tmp_path / "coco")["images"]] == [0, 1024]
