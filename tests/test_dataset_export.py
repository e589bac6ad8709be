"""What people drew in a project is what stands in its dataset."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import orjson
import pytest
import shapely
from dataset_project import HEIGHT, LABELS, WIDTH, a_project, label, square
from shapely.geometry import MultiPoint, Point, box
from write_objects import next_run

from midog_qupath.dataset.export import export_project
from midog_qupath.dataset.read_image import ExportOptions
from midog_qupath.dataset.store import Dataset
from midog_qupath.detection import Detection
from midog_qupath.errors import DatasetError, MidogError, PixelSizeError, SlideError
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.model import PathClass, PathObject, Project
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.results import ImageResult
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.write import write_detections
from midog_qupath.units import WORKING_MPP

REGION = label("Region*", box(-20, 0, 100, 100), 9)


def export(project: Project, progress: Progress = SILENT, **options: object) -> Dataset:
    asked = ExportOptions(project.ours / "dataset", **options)  # type: ignore[arg-type]
    with NativeStore(project) as store:
        return export_project(project, store, asked, progress)


def test_every_labelled_object_is_a_row(tmp_path: Path) -> None:
    dataset = export(a_project(tmp_path / "p", {"a.png": LABELS}))

    found = [(r.label, r.role, r.x, r.y, r.shape, r.votes_atypical, r.votes_total) for r in dataset.objects]
    assert found == [
        ("Mitosis: Atypical", "atypical", 50, 60, "rectangle", 2, 3),
        ("Mitosis", "mitosis", 100, 110, "points", None, None),
        ("Mitosis", "mitosis", 150, 120, "points", None, None),
        ("Non-mitosis", "non_mitosis", 200, 150, "polygon", None, None),
    ]
    assert len({row.source_id for row in dataset.objects}) == 4
    assert dataset.objects[0].source_id == str(UUID(int=1))
    outline = dataset.objects[0].polygon
    assert outline is not None
    assert shapely.from_wkb(outline).equals(square(50, 60))
    assert dataset.meta.ignored == {"Stroma": 1, "Unclassified": 1}
    (image,) = dataset.images
    assert (image.name, image.case, image.domain, image.extent) == ("a.png", "a.png", "unknown", "objects")
    assert image.labelled_mm2 == 0


def test_the_stored_pixels_are_the_images(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS})
    dataset = export(project, whole=("a.*",))
    image = cv2.imread(str(tmp_path / "p" / "images" / "a.png"))
    assert image is not None
    (area,) = dataset.areas
    np.testing.assert_array_equal(dataset.pixels(area), image[:, :, ::-1])
    assert dataset.images[0].labelled_mm2 == pytest.approx(WIDTH * HEIGHT * 0.0625e-6)


def test_a_coarse_image_is_stored_at_the_working_resolution_and_marked(tmp_path: Path) -> None:
    dataset = export(a_project(tmp_path / "p", {"a.png": LABELS}, mpp=0.5), whole=("*",))
    (area,) = dataset.areas
    assert (area.width, area.height, area.downsample) == (2 * WIDTH, 2 * HEIGHT, 0.5)
    assert dataset.pixels(area).shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert dataset.meta.coarse == ("a.png",)
    assert dataset.objects[0].x == 50


def test_regions_are_measured_inside_the_image(tmp_path: Path) -> None:
    dataset = export(a_project(tmp_path / "p", {"a.png": [*LABELS, REGION]}))
    (image,) = dataset.images
    assert image.extent == "regions"
    assert image.region_polygons is not None
    assert shapely.from_wkb(image.region_polygons).equals(box(0, 0, 100, 100))
    assert image.labelled_mm2 == pytest.approx(100 * 100 * 0.0625e-6)
    assert len(dataset.objects) == 4


def test_boxes_past_the_border_are_cut_and_objects_off_the_image_counted(tmp_path: Path) -> None:
    objects = [
        label("Mitosis", square(295, 100, 20), 1),
        label("Mitosis", square(310, 100, 20), 2),
        label("Mitosis", MultiPoint([(10, 10), (500, 10)]), 3),
    ]
    dataset = export(a_project(tmp_path / "p", {"a.png": objects}))
    assert [(row.x, row.y) for row in dataset.objects] == [(10, 10), (295, 100), (295, 100)]
    assert dataset.meta.ignored == {"(off the image)": 1}


def test_other_class_names_are_mapped(tmp_path: Path) -> None:
    objects = [
        label("Mitotic figure", square(50, 50), 1),
        label("Mitotic figure: Atypical", square(99, 99), 2),
    ]
    class_map = ClassMap.parse(["mitosis=Mitotic figure"])
    dataset = export(a_project(tmp_path / "p", {"a.png": objects}), class_map=class_map)
    assert [row.role for row in dataset.objects] == ["mitosis", "atypical"]
    assert dataset.meta.class_map["atypical"] == ("Mitotic figure: Atypical",)


def test_a_mosaics_objects_have_cells_and_cases_of_their_own(tmp_path: Path) -> None:
    objects = [
        label("Mitosis: Normal", square(50, 50), 1, name="slide/7/1"),
        label("Mitosis: Normal", square(250, 150), 2, name="slide/8/1"),
        label("Mitosis: Normal", square(150, 150), 3, name="unnamed"),
    ]
    metadata = {"labelled": "objects", "cell_px": "100", "case": "mosaic", "domain": "scanner"}
    dataset = export(a_project(tmp_path / "p", {"m.png": objects}, {"m.png": metadata}))
    assert [(row.cell, row.case) for row in dataset.objects] == [
        (0, "slide/7"),
        (4, "mosaic"),
        (5, "slide/8"),
    ]
    assert [(area.width, area.height) for area in dataset.areas] == [(WIDTH, HEIGHT)]


def test_images_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS, "b.png": LABELS})
    raw = orjson.loads(project.path.read_bytes())
    raw["images"][1]["imageName"] = "a.png"
    project.path.write_bytes(orjson.dumps(raw))
    assert [image.name for image in export(open_project(project.path)).images] == ["a.png-1", "a.png-2"]


def test_tables_override_the_project(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS, "b.png": LABELS})
    images, objects = tmp_path / "i.csv", tmp_path / "o.csv"
    images.write_text("image,case,domain,extent\na.png,patient 1,scanner,whole\n", encoding="utf-8")
    objects.write_text(
        "image,x,y,label,votes_atypical,votes_total\nb.png,100,110,Mitosis: Normal,1,5\n", encoding="utf-8"
    )
    dataset = export(project, image_table=images, object_table=objects)
    a, b = dataset.images
    assert (a.case, a.domain, a.extent, b.case, b.extent) == (
        "patient 1",
        "scanner",
        "whole",
        "b.png",
        "objects",
    )
    (changed,) = [row for row in dataset.objects if row.role == "normal"]
    assert (changed.image, changed.votes_atypical, changed.votes_total) == ("b.png", 1, 5)


@pytest.mark.parametrize(
    ("table", "whole", "message"),
    [
        ("image,x,y,label\na.png,100,110,Stroma\n", (), "'Stroma'"),
        ("image,x,y,case\na.png,100,110,other\n", ("*",), "exhaustively labelled"),
    ],
)
def test_tables_that_make_no_sense_are_refused(
    tmp_path: Path, table: str, whole: tuple[str, ...], message: str
) -> None:
    path = tmp_path / "o.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        export(a_project(tmp_path / "p", {"a.png": LABELS}), object_table=path, whole=whole)


def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="fits no image"):
        export(a_project(tmp_path / "p", {"a.png": LABELS}), whole=("b*",))


def test_a_mosaic_is_never_exhaustively_labelled(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS}, {"a.png": {"cell_px": "100"}})
    with pytest.raises(DatasetError, match="mosaic"):
        export(project, whole=("*",))


def test_a_missing_image_is_left_out_and_named(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS, "b.png": LABELS, "empty.png": []})
    for name in ("b.png", "empty.png"):
        (tmp_path / "p" / "images" / name).unlink()
    dataset = export(open_project(project.path))
    assert [image.name for image in dataset.images] == ["a.png"]
    assert list(dataset.meta.skipped) == ["b.png"]
    assert dataset.meta.unlabelled == ("empty.png",)


def test_where_every_labelled_image_is_missing_the_first_error_stands(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS})
    (tmp_path / "p" / "images" / "a.png").unlink()
    with pytest.raises(SlideError, match=r"a\.png"):
        export(open_project(project.path))
    assert not (project.ours / "dataset").exists()


def test_an_image_that_ends_early_leaves_no_blocks_behind(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS, "b.png": LABELS})
    path = tmp_path / "p" / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:-5000])
    dataset = export(project)
    assert list(dataset.meta.skipped) == ["b.png"]
    assert len(list((dataset.folder / "pixels").iterdir())) == len(dataset.areas)


def test_an_unknown_pixel_size_is_an_error_until_given(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS}, mpp=None)
    with pytest.raises(PixelSizeError, match="--mpp"):
        export(project)
    assert export(project, mpp=0.25).images[0].mpp == 0.25


def test_very_coarse_images_need_force(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS}, mpp=0.7)
    with pytest.raises(PixelSizeError, match="--force"):
        export(project)
    assert export(project, force=True).meta.coarse == ("a.png",)


@pytest.mark.parametrize("whole", [(), ("*",)])
def test_no_labels_at_all_is_an_error_that_names_what_is_there(
    tmp_path: Path, whole: tuple[str, ...]
) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS[3:]})
    with pytest.raises(DatasetError, match=r"1 Stroma, 1 Unclassified.*--class-map"):
        export(project, whole=whole)


class Told:
    """Progress that remembers what it was told, and can be interrupted at the first image."""

    def __init__(self, interrupt: bool = False) -> None:
        self.lines: list[str] = []
        self._interrupt = interrupt

    @contextmanager
    def task(self, label: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        def advance(amount: float) -> None:
            if self._interrupt:
                raise KeyboardInterrupt

        yield advance

    def note(self, message: str) -> None:
        self.lines.append(message)

    warn = note


def test_one_class_only_is_fine_and_said(tmp_path: Path) -> None:
    told = Told()
    dataset = export(a_project(tmp_path / "p", {"a.png": LABELS[1:2]}), told)
    assert {row.label for row in dataset.objects} == {"Mitosis"}
    assert any("No look-alikes" in line for line in told.lines)


def test_interrupted_the_old_dataset_stays(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS})
    old = export(project)
    with pytest.raises(KeyboardInterrupt):
        export(project, Told(interrupt=True), whole=("*",))
    assert Dataset.open(old.folder).sha256 == old.sha256
    assert [path.name for path in project.ours.iterdir()] == ["dataset"]


def test_the_same_labels_give_the_same_digest(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS})
    assert export(project).sha256 == export(project).sha256
    assert export(project, split_seed=1).sha256 != export(project).sha256


def test_ours_is_ground_truth_only_where_a_person_touched_it(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS[:1]})
    (entry,) = project.images
    places = [(100, 100), (150, 100), (200, 100)]
    found = [Detection(x, y, 0.9, 0.1, Point(x, y).buffer(10)) for x, y in places]
    run = next_run(project, 0)
    result = ImageResult(entry, found, box(0, 0, WIDTH, HEIGHT), WORKING_MPP)
    write_detections(
        project, lambda: NativeStore(project), [result], run, keep=False, sidecar_only=False, progress=SILENT
    )
    untouched, touched, deleted = _ours_by_x(project)
    _change(project, Edit(frozenset({touched.id, deleted.id}), (), ""))
    _change(project, Edit(frozenset(), (replace(touched, path_class=PathClass("Mitosis: Atypical")),), ""))

    dataset = export(project)

    rows = [(round(row.x), row.label, row.shape) for row in dataset.objects if row.y > 90]
    assert rows == [(150, "Mitosis: Atypical", "polygon"), (200, "Non-mitosis", "points")]
    assert str(untouched.id) not in {row.source_id for row in dataset.objects}


def _ours_by_x(project: Project) -> list[PathObject]:
    things = [t for t in NativeStore(project).read(project.images[0]) if "midog run" in t.measurements]
    return sorted(things, key=lambda thing: thing.roi.geometry.centroid.x if thing.roi else 0)


def _change(project: Project, edit: Edit) -> None:
    store, entry = NativeStore(project), project.images[0]
    store.apply(entry, replace(edit, expected=store.fingerprint(entry)))


@pytest.mark.realdata
def test_the_real_project_gives_the_labels_it_was_made_from(real_project: Path, data_dir: Path) -> None:
    dataset = export(open_project(real_project))
    truth = _true_fields(data_dir) | _true_mosaics(data_dir)

    found = defaultdict(list)
    for row in dataset.objects:
        found[row.image].append((row.label, row.x, row.y))
    assert found.keys() == truth.keys()
    for image, rows in truth.items():
        for one, other in zip(sorted(rows, key=_place), sorted(found[image], key=_place), strict=True):
            assert one[0] == other[0]
            assert max(abs(one[1] - other[1]), abs(one[2] - other[2])) <= 0.5
    assert Counter(row.label for row in dataset.objects) == {
        "Mitosis": 162,
        "Non-mitosis": 61,
        "Mitosis: Normal": 2295,
        "Mitosis: Atypical": 694,
    }
    cells = {(row.image, row.cell): row for row in dataset.objects}
    for line in _mosaic_lines(data_dir):
        row = cells[Path(line["file"]).name, int(line["row"]) * 16 + int(line["column"])]
        assert (row.case, row.votes_atypical) == (line["slide"], int(line["atypical_votes"]))
        assert row.votes_total == 3
    _check_splits(dataset)


Place = tuple[str, float, float]


def _true_fields(data_dir: Path) -> dict[str, list[Place]]:
    fields = orjson.loads((data_dir / "breast-mitosis" / "labels" / "fields.json").read_bytes())
    listed = {
        Path(field["file"]).name: [
            (item["label"], item["x"], item["y"]) for item in field["objects"] if item["label"] != "Nucleus"
        ]
        for field in fields
    }
    return {name: rows for name, rows in listed.items() if rows}


def _mosaic_lines(data_dir: Path) -> list[dict[str, str]]:
    with (data_dir / "breast-mitosis" / "labels" / "atlases.csv").open(
        encoding="utf-8", newline=""
    ) as stream:
        return list(csv.DictReader(stream))


def _true_mosaics(data_dir: Path) -> dict[str, list[Place]]:
    truth = defaultdict(list)
    for line in _mosaic_lines(data_dir):
        x, y = (int(line[key]) * 128 + 64 for key in ("column", "row"))
        truth[Path(line["file"]).name].append((f"Mitosis: {line['label'].capitalize()}", x, y))
    return dict(truth)


def _place(row: Place) -> tuple[int, int]:
    return round(row[2]), round(row[1])


def _check_splits(dataset: Dataset) -> None:
    splits = defaultdict(set)
    for row in dataset.objects:
        splits[row.case].add(row.split)
    for image in dataset.images:
        if image.cell_px is None:
            splits[image.case].add(image.split)
    assert all(len(found) == 1 for found in splits.values())
    mitoses = Counter(row.split for row in dataset.objects if row.role != "non_mitosis")
    assert [round(mitoses[split] / 3151, 1) for split in ("train", "val", "test")] == [0.6, 0.2, 0.2]
    fields = Counter(row.split for row in dataset.objects if row.role == "mitosis")
    assert min(fields["val"], fields["test"]) >= 20


@pytest.mark.realdata
def test_geojson_and_data_files_give_the_same_labels(real_project: Path, data_dir: Path) -> None:
    # A multi-point image, one with look-alikes, one with regions, one mosaic.
    _keep_images(real_project, [4, 45, 54, 69])
    project = open_project(real_project)
    read = export(project)
    sidecar = export(project, ground_truth=data_dir / "breast-mitosis" / "geojson")

    def key(dataset: Dataset) -> list[tuple[object, ...]]:
        return [(r.image, r.label, round(r.x, 1), round(r.y, 1), r.case, r.split) for r in dataset.objects]

    assert key(sidecar) == key(read)
    assert sidecar.meta.sources[0].store == "geojson"


def _keep_images(path: Path, indices: list[int]) -> None:
    raw = orjson.loads(path.read_bytes())
    raw["images"] = [raw["images"][index] for index in indices]
    path.write_bytes(orjson.dumps(raw))


def test_a_folder_of_geojson_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MidogError, match="no folder"):
        export(a_project(tmp_path / "p", {"a.png": LABELS}), ground_truth=tmp_path / "none")
