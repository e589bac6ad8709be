"""Ground truth of the real project equals the labels from which it was made; extents follow the rules."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import shapely

from midog_qupath.errors import ProjectError
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import GroundTruth, ground_truth
from midog_qupath.project.model import (
    ImageEntry,
    ObjectKind,
    PathClass,
    PathObject,
    Roi,
    RoiKind,
    ServerBuilder,
)
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore

ENTRY = ImageEntry(
    "1", "a.png", ServerBuilder("uri", None), None, False, 100, 80, None, {}, Path("data/1"), "a"
)


def drawn(class_name: str | None, kind: RoiKind, geometry: shapely.Geometry) -> PathObject:
    path_class = PathClass(class_name) if class_name else None
    return PathObject(uuid4(), ObjectKind.ANNOTATION, Roi(kind, geometry), path_class)


@pytest.mark.realdata
def test_real_project_gives_the_labels_it_was_made_from(data_dir: Path) -> None:
    folder = data_dir / "breast-mitosis"
    project = open_project(folder)
    store = NativeStore(project)
    truth = {e.name: ground_truth(e, store.read(e), ClassMap()) for e in project.images}
    fields = json.loads((folder / "labels" / "fields.json").read_text(encoding="utf-8"))
    roles: Counter[str] = Counter()
    for field in fields:
        wanted = [(o["label"], o["x"], o["y"]) for o in field["objects"] if o["label"] != "Nucleus"]
        compare(truth[Path(field["file"]).name], wanted)
        roles.update(label for label, _, _ in wanted)
    assert roles == {"Mitosis": 162, "Non-mitosis": 61}
    with (folder / "labels" / "atlases.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    cells: dict[str, list[tuple[str, float, float]]] = {}
    for row in rows:
        label = "Mitosis: Atypical" if row["label"] == "atypical" else "Mitosis: Normal"
        centre = (int(row["column"]) * 128 + 64.0, int(row["row"]) * 128 + 64.0)
        cells.setdefault(Path(row["file"]).name, []).append((label, *centre))
    for name, wanted in cells.items():
        compare(truth[name], wanted)
    found = Counter(o.role for name in cells for o in truth[name].objects)
    assert found == {"atypical": 694, "normal": 2295}
    extents = Counter(t.extent for t in truth.values())
    assert extents == {"whole": 54, "regions": 2, "objects": 14}


def compare(truth: GroundTruth, wanted: list[tuple[str, float, float]]) -> None:
    found = sorted((o.label, o.x, o.y) for o in truth.objects)
    assert len(found) == len(wanted)
    for mine, other in zip(found, sorted(wanted), strict=True):
        assert mine[0] == other[0]
        assert mine[1] == pytest.approx(other[1], abs=0.5)
        assert mine[2] == pytest.approx(other[2], abs=0.5)


def test_each_point_is_an_object_and_has_no_outline() -> None:
    points = drawn("Mitosis", RoiKind.POINTS, shapely.MultiPoint([(1, 2), (30, 40)]))
    truth = ground_truth(ENTRY, [points], ClassMap())
    assert [(o.x, o.y, o.geometry) for o in truth.objects] == [(1, 2, None), (30, 40, None)]
    assert len({o.source_id for o in truth.objects}) == 2


def test_labels_past_the_border_are_cut_not_dropped() -> None:
    box = drawn("Non-mitosis", RoiKind.RECTANGLE, shapely.box(90, 70, 110, 90))
    (found,) = ground_truth(ENTRY, [box], ClassMap()).objects
    assert found.geometry is not None
    assert found.geometry.bounds == (90, 70, 100, 80)
    assert (found.x, found.y) == (100, 80)


def test_extent_is_regions_where_one_is_drawn_else_objects_and_whole_only_when_told() -> None:
    mitosis = drawn("Mitosis: Normal", RoiKind.RECTANGLE, shapely.box(5, 5, 15, 15))
    region = drawn("Region*", RoiKind.RECTANGLE, shapely.box(0, 0, 20, 20))
    outside = drawn("Mitosis", RoiKind.POINTS, shapely.MultiPoint([(50, 50)]))
    assert ground_truth(ENTRY, [mitosis], ClassMap()).extent == "objects"
    assert ground_truth(ENTRY, [mitosis], ClassMap(), whole=True).extent == "whole"
    truth = ground_truth(ENTRY, [mitosis, region, outside], ClassMap())
    assert truth.extent == "regions"
    assert [o.inside for o in truth.objects] == [True, False]
    told = replace(ENTRY, metadata={"labelled": "whole"})
    assert ground_truth(told, [mitosis, region], ClassMap()).extent == "whole"


@pytest.mark.parametrize("said", ["regions", "everything"])
def test_metadata_that_cannot_be_followed_are_an_error(said: str) -> None:
    with pytest.raises(ProjectError, match="labelled"):
        ground_truth(replace(ENTRY, metadata={"labelled": said}), [], ClassMap())


def test_what_was_drawn_in_several_parts_is_one_label_a_part_and_a_crossing_line_is_one() -> None:
    parts = drawn(
        "Mitosis",
        RoiKind.GEOMETRY,
        shapely.MultiPolygon([shapely.box(0, 0, 9, 9), shapely.box(20, 20, 29, 29)]),
    )
    bow_tie = drawn("Mitosis", RoiKind.POLYGON, shapely.Polygon([(40, 40), (50, 50), (50, 40), (40, 50)]))
    ellipse = drawn("Mitosis", RoiKind.ELLIPSE, shapely.Point(70, 30).buffer(8))
    truth = ground_truth(ENTRY, [parts, bow_tie, ellipse], ClassMap())
    assert [(o.x, o.y) for o in truth.objects] == [(4.5, 4.5), (24.5, 24.5), (45, 45), (70, 30)]
    assert [o.source_id for o in truth.objects][:2] == [str(parts.id), f"{parts.id}#1"]
    assert all(o.geometry is not None and o.geometry.is_valid for o in truth.objects)
    assert truth.objects[2].geometry.area == 50


def test_annotations_that_yield_nothing_are_counted() -> None:
    things = [
        drawn("Mitosis", RoiKind.LINE, shapely.LineString([(0, 0), (9, 9)])),
        drawn("Mitosis: Normal", RoiKind.RECTANGLE, shapely.box(200, 200, 210, 210)),
        drawn("Region*", RoiKind.POINTS, shapely.Point(3, 3)),
    ]
    truth = ground_truth(ENTRY, things, ClassMap())
    assert (truth.objects, truth.extent) == ((), "objects")
    assert truth.ignored == {"Mitosis": 1, "Mitosis: Normal": 1, "Region*": 1}


def test_only_what_may_teach_is_taken() -> None:
    mine = drawn("Mitosis", RoiKind.POINTS, shapely.Point(1, 2))
    found = replace(mine, kind=ObjectKind.DETECTION)
    assert ground_truth(ENTRY, [found], ClassMap()).objects == ()
    assert len(ground_truth(ENTRY, [found], ClassMap(), teaches=lambda thing: True).objects) == 1


def test_a_figure_that_was_drawn_and_whose_detection_was_reviewed_is_one_label() -> None:
    def detection(class_name: str, x: float, y: float) -> PathObject:
        made = drawn(class_name, RoiKind.POLYGON, shapely.Point(x, y).buffer(8))
        return replace(made, kind=ObjectKind.DETECTION)

    things = [
        drawn("Mitosis", RoiKind.RECTANGLE, shapely.box(10, 10, 30, 30)),
        drawn("Mitosis", RoiKind.POINTS, shapely.MultiPoint([(60, 20), (80, 60)])),
        drawn("Mitosis: Normal", RoiKind.RECTANGLE, shapely.box(10, 50, 30, 70)),
        detection("Mitosis: Atypical", 24, 24),  # says of what type the first is
        detection("Mitosis", 63, 20),
        detection("Non-mitosis", 20, 60),  # a person drew a mitosis there: that stays
        detection("Mitosis: Normal", 60, 60),
    ]
    truth = ground_truth(ENTRY, things, ClassMap(), teaches=lambda thing: True)
    assert [(o.label, round(o.x), round(o.y)) for o in truth.objects] == [
        ("Mitosis: Atypical", 20, 20),
        ("Mitosis", 60, 20),
        ("Mitosis", 80, 60),
        ("Mitosis: Normal", 20, 60),
        ("Mitosis: Normal", 60, 60),
    ]
    assert truth.objects[0].geometry.equals(shapely.box(10, 10, 30, 30))


def test_classes_that_mean_nothing_to_us_are_counted() -> None:
    things = [
        drawn("Tumour", RoiKind.RECTANGLE, shapely.box(0, 0, 5, 5)),
        drawn(None, RoiKind.RECTANGLE, shapely.box(0, 0, 5, 5)),
    ]
    assert ground_truth(ENTRY, things, ClassMap()).ignored == {"Tumour": 1, "Unclassified": 1}
