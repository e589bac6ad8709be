"""Projects as they are about: images twice, without metadata, several in one file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dataset_project import HEIGHT, LABELS, WIDTH, a_project

from midog_qupath.dataset.export import export_project
from midog_qupath.dataset.read_image import ExportOptions
from midog_qupath.errors import ProjectError, SlideError
from midog_qupath.evaluation.truth import collect_truth
from midog_qupath.progress import SILENT
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.info import describe
from midog_qupath.project.model import Project
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.slides.check import open_entry, sized


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return a_project(tmp_path / "p", dict.fromkeys(("a.png", "b.png", "c.png", "d.png"), LABELS))


def rewritten(project: Project, change: Any) -> Project:
    """The project with its parsed file changed by ``change``."""
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    change(raw["images"])
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    return open_project(project.path)


def twice(images: list[dict[str, Any]]) -> None:
    """As QuPath duplicates an image: the same file under another name, and once under its own."""
    for number, name in ((8, "a copy.png"), (9, "a.png")):
        images.append({**images[0], "entryID": number, "imageName": name})


def without_metadata(images: list[dict[str, Any]]) -> None:
    for image in images:
        image["serverBuilder"].pop("metadata")


def test_an_image_that_stands_twice_is_one_case_and_told(project: Project, tmp_path: Path) -> None:
    for number in ("8", "9"):
        shutil.copytree(project.folder / "data" / "1", project.folder / "data" / number)
    opened = rewritten(project, twice)
    store = NativeStore(opened)
    for seed in range(3):
        options = ExportOptions(folder=tmp_path / "dataset", class_map=ClassMap(), split_seed=seed)
        images = export_project(opened, store, options, SILENT).images
        assert len(images) == 6
        assert len({image.name for image in images}) == 6
        splits = {(image.case, image.split) for image in images if image.name.startswith("a")}
        assert len(splits) == 1
        assert {image.split for image in images} == {"train", "val", "test"}
    notes = [line for line in describe(opened, store, ClassMap()).data["problems"] if "same file" in line]
    assert notes == [
        f"{name} shows the same file as a.png: its labels count twice." for name in ("a copy.png", "a.png")
    ]


def test_images_without_any_metadata_are_worked_with(project: Project, tmp_path: Path) -> None:
    opened = rewritten(project, without_metadata)
    assert all((entry.width, entry.height, entry.mpp) == (None, None, None) for entry in opened.images)
    store = NativeStore(opened)
    found = describe(opened, store, ClassMap())
    assert not found.usable
    assert all("--mpp" in problem for problem in found.data["problems"])
    found = describe(opened, store, ClassMap(), mpp=0.25)
    assert found.usable
    assert [(row["width"], row["height"], row["mpp"]) for row in found.data["images"]] == [
        (WIDTH, HEIGHT, 0.25)
    ] * 4
    options = ExportOptions(folder=tmp_path / "d", class_map=ClassMap(), mpp=0.25, whole=("*",))
    dataset = export_project(opened, store, options, SILENT)
    assert [(image.width, image.height) for image in dataset.images] == [(WIDTH, HEIGHT)] * 4


def test_an_image_labelled_as_a_whole_is_measured_whole_though_its_size_is_in_the_file_only(
    project: Project,
) -> None:
    def whole(images: list[dict[str, Any]]) -> None:
        without_metadata(images)
        images[0]["metadata"] = {"labelled": "whole"}

    opened = rewritten(project, whole)
    truth = collect_truth(opened, opened.images[:1], NativeStore(opened), ClassMap(), None, frozenset())
    assert truth.images[0].area is not None
    assert truth.images[0].area.area == WIDTH * HEIGHT
    opened.images[0].path.unlink()
    gone = open_project(opened.path).images[0]
    assert sized(gone) == gone


def test_of_several_images_in_a_file_none_is_taken_by_guess(tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    first, second = (np.full((80, 100, 3), value, np.uint8) for value in (200, 100))
    with tifffile.TiffWriter(path, ome=True) as file:
        for pixels in (first, second):
            file.write(pixels, photometric="rgb")
    with pytest.raises(ProjectError, match="2 images"):
        create_project(tmp_path / "new", [NewImage(path, 0.25)])
    assert not (tmp_path / "new").exists()

    def scenes(images: list[dict[str, Any]]) -> None:
        for number, image in enumerate(images[:2]):
            server = {"builderType": "uri", "uri": path.as_uri(), "args": ["--series", str(number)]}
            image["serverBuilder"] = server

    opened = rewritten(a_project(tmp_path / "p", dict.fromkeys(("a.png", "b.png", "c.png"), ())), scenes)
    with open_entry(opened.images[0]) as slide:
        assert slide.read(0, 0, 1, 1, 1.0)[0, 0, 0] == 200
    with pytest.raises(SlideError, match="image number 1 of those inside"):
        open_entry(opened.images[1])
    found = describe(opened, NativeStore(opened), ClassMap(), mpp=0.25)
    assert not found.usable
    assert [row["readable"] for row in found.data["images"]] == [True, False, True]
