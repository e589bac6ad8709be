"""What is told of a project: what stops work, what is only worth knowing, one line for what many share."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import pytest
from shapely.geometry import box

from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.geojson import write_features
from midog_qupath.project.info import ProjectInfo, describe
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Five small images without annotations."""
    (tmp_path / "p" / "images").mkdir(parents=True)
    paths = [tmp_path / "p" / "images" / f"{number}.png" for number in range(5)]
    for path in paths:
        cv2.imwrite(str(path), np.full((40, 50, 3), 200, np.uint8))
    return create_project(tmp_path / "p", [NewImage(path, 0.25) for path in paths])


def look(project: Project, **options: Any) -> ProjectInfo:
    opened = open_project(project.path)
    return describe(opened, NativeStore(opened), options.pop("class_map", ClassMap()), **options)


def change_server(project: Project, **values: Any) -> None:
    """The server of the first image with other values."""
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    raw["images"][0]["serverBuilder"] = {**raw["images"][0]["serverBuilder"], **values}
    project.path.write_text(json.dumps(raw), encoding="utf-8")


def mitosis(class_name: str = "Mitosis") -> PathObject:
    roi = Roi(RoiKind.RECTANGLE, box(5, 5, 15, 15))
    return PathObject(uuid4(), ObjectKind.ANNOTATION, roi, PathClass(class_name))


def test_addresses_that_no_longer_hold_are_named_or_counted_and_stop_nothing(
    project: Project, tmp_path: Path
) -> None:
    few = shutil.copytree(project.folder, tmp_path / "few")
    (project.folder / "images" / "0.png").unlink()
    found = look(open_project(few))
    assert found.usable
    (line,) = [problem for problem in found.data["problems"] if "no longer holds" in problem]
    assert line.startswith("0.png: its address file:")
    assert str(few / "images" / "0.png") in line
    assert [image["stale"] for image in found.data["images"]] == [True, False, False, False, False]

    shutil.rmtree(project.folder / "images")
    found = look(open_project(few))
    assert found.usable
    assert found.data["problems"][0].startswith("5 image addresses no longer hold")


def test_images_that_qupath_shows_rotated_are_a_problem(project: Project) -> None:
    server = json.loads(project.path.read_text(encoding="utf-8"))["images"][0]["serverBuilder"]
    change_server(project, builderType="rotated", builder=server)
    found = look(project)
    assert not found.usable
    assert "0.png" in found.data["problems"][0]
    assert "rotated" in found.data["problems"][0]
    assert [image["readable"] for image in found.data["images"]] == [False, True, True, True, True]


def test_a_coarse_pixel_size_is_told_and_stops_nothing(project: Project) -> None:
    size = {"value": 0.5, "unit": "µm"}
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    metadata = raw["images"][0]["serverBuilder"]["metadata"]
    change_server(
        project, metadata={**metadata, "pixelCalibration": {"pixelWidth": size, "pixelHeight": size}}
    )
    found = look(project)
    assert found.usable
    assert found.data["images"][0]["mpp"] == 0.5
    assert "0.png: 0.5 µm per pixel is coarse" in found.data["problems"][0]


def test_annotations_detections_and_what_they_mean(project: Project) -> None:
    store = NativeStore(project)
    store.create(project.images[0], [mitosis("MF"), mitosis("MF"), mitosis("Stroma")])
    found = look(project)
    assert found.data["classes"] == {"MF": 2, "Stroma": 1}
    assert "--class-map" in found.data["problems"][-1]
    found = look(project, class_map=ClassMap.parse(["mitosis=MF"]))
    assert (found.usable, found.data["problems"]) == (True, [])
    assert [image["extent"] for image in found.data["images"]] == ["objects"] * 5


def test_ground_truth_from_a_folder(project: Project, tmp_path: Path) -> None:
    found = look(project, ground_truth_dir=tmp_path / "none")
    assert not found.usable
    assert "There is no folder" in found.data["problems"][0]
    folder = tmp_path / "truth"
    region = PathObject(
        id=uuid4(), kind=ObjectKind.ANNOTATION, roi=Roi(RoiKind.POLYGON, box(0, 0, 30, 30)),
        path_class=PathClass("Region*"),
    )  # fmt: skip
    write_features(folder / "3.geojson", [region])
    found = look(project, ground_truth_dir=folder)
    assert (found.usable, found.data["classes"]) == (True, {"Region*": 1})
    assert found.data["images"][3]["extent"] == "regions"


def test_a_project_of_hundreds_of_images_is_described_in_two_seconds(project: Project) -> None:
    """434 images, each with a data file of its own that holds ten annotations."""
    store = NativeStore(project)
    store.create(project.images[0], [mitosis() for _ in range(10)])
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    first = raw["images"][0]
    raw["images"] = [{**first, "entryID": number, "imageName": f"{number}.png"} for number in range(1, 435)]
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    for number in range(2, 435):
        shutil.rmtree(project.folder / "data" / str(number), ignore_errors=True)
        shutil.copytree(project.folder / "data" / "1", project.folder / "data" / str(number))
    start = time.process_time()
    found = look(project)
    assert time.process_time() - start < 2
    assert (found.usable, len(found.data["images"])) == (True, 434)
    assert found.data["classes"] == {"Mitosis": 4340}
