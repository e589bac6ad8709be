"""COCO files of MIDOG and of others: what boxes, outlines and categories mean, and which are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from midog_qupath.errors import LabelsError
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.labels.coco import load_json, read_coco
from midog_qupath.project.labels.given import Words
from midog_qupath.project.labels.tables import read_image_table


def coco_of(boxes: Sequence[Sequence[float]], **changes: Any) -> dict[str, Any]:
    annotations = [{"image_id": 1, "category_id": 1, "bbox": list(box_)} for box_ in boxes]
    image = {"id": 1, "file_name": "a.png", "width": 7000, "height": 5000}
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "not mitotic figure"}]
    return {"images": [image], "categories": categories, "annotations": annotations, **changes}


@pytest.mark.parametrize(
    ("boxes", "bounds"),
    [
        ([[4336, 346, 4386, 396], [20, 20, 70, 70]], (4336, 346, 4386, 396)),
        ([[4336, 346, 50, 60], [20, 20, 70, 70]], (4336, 346, 4386, 406)),
        ([[10, 20, 60, 70], [30, 30, 80, 80]], (10, 20, 60, 70)),
        ([[10, 20, 50, 50], [30, 30, 50, 50]], (10, 20, 60, 70)),
    ],
)
def test_boxes_are_corners_or_sizes(tmp_path: Path, boxes: list[list[int]], bounds: tuple[int, ...]) -> None:
    (image,) = read_coco(tmp_path / "a.json", coco_of(boxes), Words(ClassMap())).images
    assert image.objects[0].roi is not None
    assert image.objects[0].roi.geometry.bounds == bounds


def test_boxes_that_can_be_both_or_neither_need_a_word(tmp_path: Path) -> None:
    path, words = tmp_path / "a.json", Words(ClassMap())
    for boxes in ([[10, 20, 60, 70], [30, 30, 80, 90]], [[4336, 346, 50, 60], [6990, 20, 6995, 70]]):
        with pytest.raises(LabelsError, match="--boxes"):
            read_coco(path, coco_of(boxes), words)
    (image,) = read_coco(path, coco_of([[10, 20, 60, 70], [30, 30, 80, 90]]), words, "sizes").images
    assert image.objects[1].roi.geometry.bounds == (30, 30, 110, 120)


def test_an_outline_goes_before_the_box_around_it(tmp_path: Path) -> None:
    outline = [10, 10, 40, 10, 40, 40]
    raw = coco_of([[10, 10, 30, 30]])
    raw["annotations"][0]["segmentation"] = [outline]
    (image,) = read_coco(tmp_path / "a.json", raw, Words(ClassMap()), "sizes").images
    assert image.objects[0].roi.geometry.area == 450
    raw["annotations"][0]["segmentation"] = {"counts": [3, 4], "size": [10, 10]}
    (image,) = read_coco(tmp_path / "a.json", raw, Words(ClassMap()), "sizes").images
    assert image.objects[0].roi.geometry.area == 900


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "images"),
        ({"images": [{"id": 1}]}, "file_name"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3]}]}, "bbox"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, float("nan")]}]}, "finite"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}]}, "unknown image"),
        ({"annotations": [{"image_id": 1, "category_id": 8, "bbox": [1, 2, 3, 4]}]}, "unknown category"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories"),
        ({"categories": [{"id": 1, "name": "cell"}]}, "unknown meaning"),
    ],
)
def test_coco_files_with_mistakes_are_refused_in_words(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabelsError, match=message):
        read_coco(tmp_path / "a.json", coco_of([[1, 2, 3, 4]], **changes), Words(ClassMap()))


@pytest.mark.long
@pytest.mark.realdata
def test_midog_s_own_file_is_read_whole(data_dir: Path) -> None:
    path = data_dir / "midog" / "MIDOGpp.json"
    given = read_coco(path, load_json(path), Words(ClassMap()))
    objects = [thing for image in given.images for thing in image.objects]
    assert len(given.images) == 553
    assert sum(thing.class_name == "Mitosis" for thing in objects) == 11_937
    assert sum(thing.class_name == "Non-mitosis" for thing in objects) == 14_349
    assert {thing.roi.geometry.area for thing in objects} == {2500}
    facts = read_image_table(path.with_name("MIDOGpp_datasets_xvalidation.csv"))
    in_table = {int(fact.image) for fact in facts}
    without = {int(Path(image.name).stem) for image in given.images if not image.objects}
    assert without == set(range(151, 201))
    assert len(facts) == len(in_table) == 503
    assert not in_table & without
    assert len({fact.metadata["domain"] for fact in facts}) == 9
