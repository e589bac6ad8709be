"""Every row of the table of QuPath's round-trip pitfalls: never written, read or refused in words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from midog_qupath.errors import GeoJsonError
from midog_qupath.project.geojson import read_features, to_feature, write_features
from midog_qupath.project.geojson_rules import validate_feature
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Plane, Roi, RoiKind

ID = "035cb13f-f4f5-5d53-8184-acdf294c573a"
SQUARE = [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]
FEATURE: dict[str, Any] = {
    "type": "Feature",
    "id": ID,
    "geometry": {"type": "Polygon", "coordinates": SQUARE},
    "properties": {
        "objectType": "detection",
        "classification": {"names": ["Mitosis", "Atypical"], "color": [200, 0, 255]},
        "measurements": {"Mitosis probability": 0.93},
    },
}
BOW_TIE = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])


def feature(geometry: object = None, **properties: object) -> dict[str, Any]:
    """The good feature with another geometry or other properties; None takes a property out."""
    new = {**FEATURE["properties"], **properties}
    kept = {key: value for key, value in new.items() if value is not None}
    return {**FEATURE, "geometry": geometry or FEATURE["geometry"], "properties": kept}


def read(folder: Path, content: object) -> list[PathObject]:
    path = folder / "a.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_features(path)


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def detection(geometry: shapely.Geometry, kind: RoiKind = RoiKind.POLYGON, **changes: Any) -> PathObject:
    values = {"path_class": PathClass("Mitosis: Normal"), "measurements": {"Mitosis probability": 0.5}}
    return PathObject(uuid4(), ObjectKind.DETECTION, Roi(kind, geometry), **{**values, **changes})


# ---- what each row of the table is to the reader -------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        polygon([[0, 0], [9, 0], [9, 9]]),  # an open ring
        {"type": "Polygon", "coordinates": "here"},
        {"type": "Polygon"},
        {"type": "Circle", "coordinates": [0, 0]},
        {"type": "Point", "coordinates": [0, None]},
        [0, 0],
    ],
)
def test_a_broken_geometry_is_refused_by_number_of_the_feature(tmp_path: Path, bad: object) -> None:
    with pytest.raises(GeoJsonError, match=r"a\.geojson, feature 1: its geometry is broken"):
        read(tmp_path, [FEATURE, feature(bad)])


@pytest.mark.parametrize("value", ["many", ""])
def test_a_measurement_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(GeoJsonError, match="feature 0: measurement 'a' is no number"):
        read(tmp_path, feature(measurements={"a": value}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(FEATURE)[:-9], "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": 1}', "not GeoJSON"),
        ("[1]", "not GeoJSON"),
        ("null", "not GeoJSON"),
        ('{"type": "FeatureCollection"}', "not GeoJSON"),
        (feature(classification=5), "is no class"),
        (feature(childObjects=[3]), "no Feature"),
    ],
)
def test_what_is_no_geojson_of_objects_is_said_in_words(
    tmp_path: Path, content: object, message: str
) -> None:
    with pytest.raises(GeoJsonError, match=message):
        read(tmp_path, content)


def test_a_missing_file_and_a_damaged_archive(tmp_path: Path) -> None:
    with pytest.raises(GeoJsonError, match="cannot be read"):
        read_features(tmp_path / "none.geojson")
    for data in (gzip.compress(b"[]")[:-6], b"\x1f\x8b\x08\x00" + b"\xff" * 40):
        (tmp_path / "a.gz").write_bytes(data)
        with pytest.raises(GeoJsonError, match="cannot be read"):
            read_features(tmp_path / "a.gz")
    (tmp_path / "a.geojson").write_bytes(b"\xff\xfe[")
    with pytest.raises(GeoJsonError, match="is not JSON"):
        read_features(tmp_path / "a.geojson")


@pytest.mark.parametrize(
    ("geometry", "kind"),
    [
        (FEATURE["geometry"], RoiKind.POLYGON),
        ({**FEATURE["geometry"], "isEllipse": True}, RoiKind.ELLIPSE),
        (polygon(SQUARE[0], [[2, 2], [4, 2], [4, 4], [2, 2]]), RoiKind.GEOMETRY),
        ({"type": "MultiPolygon", "coordinates": [SQUARE]}, RoiKind.GEOMETRY),
        ({"type": "Point", "coordinates": [1, 2]}, RoiKind.POINTS),
        ({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, RoiKind.POINTS),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, RoiKind.LINE),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4], [5, 5]]}, RoiKind.POLYLINE),
        ({"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]]]}, RoiKind.GEOMETRY),
        ({"type": "GeometryCollection", "geometries": [FEATURE["geometry"]]}, RoiKind.GEOMETRY),
        (json.loads(shapely.to_geojson(BOW_TIE)), RoiKind.POLYGON),
        ({"type": "Point", "coordinates": [1, 2, 3]}, RoiKind.POINTS),
    ],
)
def test_every_kind_of_shape_is_read(tmp_path: Path, geometry: object, kind: RoiKind) -> None:
    (found,) = read(tmp_path, feature(geometry))
    assert found.roi is not None
    assert found.roi.kind is kind
    assert not found.roi.geometry.has_z


def test_all_of_an_object_is_read(tmp_path: Path) -> None:
    full = feature(
        {**FEATURE["geometry"], "plane": {"z": 3}},
        name="7",
        isLocked=True,
        color=[1, 2, 3],
        metadata={"a": "b", "n": 1},
    )
    (found,) = read(tmp_path, {"type": "FeatureCollection", "features": [full]})
    assert found == PathObject(
        id=UUID(ID),
        kind=ObjectKind.DETECTION,
        roi=Roi(RoiKind.POLYGON, Polygon(SQUARE[0]), Plane(-1, 3, 0)),
        path_class=PathClass("Mitosis: Atypical", (0xFFC800FF) - 2**32),
        name="7",
        measurements={"Mitosis probability": 0.93},
        metadata={"a": "b", "n": "1"},
        locked=True,
        color=0xFF010203 - 2**32,
    )


@pytest.mark.parametrize(
    "classification",
    [
        {"names": ["Mitosis", "Atypical"], "color": [1, 2, 3]},
        {"names": ["Mitosis", "Atypical"]},
        {"name": "Mitosis: Atypical", "colorRGB": -16711423},
        {"name": "Mitosis:Atypical", "color": [1, 2, 3, 4]},
        "Mitosis: Atypical",
    ],
)
def test_a_class_in_every_form_colour_or_not(tmp_path: Path, classification: object) -> None:
    assert read(tmp_path, feature(classification=classification))[0].class_name == "Mitosis: Atypical"


def test_no_class(tmp_path: Path) -> None:
    for classification in (None, "", {}, {"name": None}):
        assert read(tmp_path, feature(classification=classification))[0].path_class is None


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"objectType": "annotation"}, ObjectKind.ANNOTATION),
        ({"objectType": "cell"}, ObjectKind.CELL),
        ({"objectType": "tmaCore"}, ObjectKind.TMA_CORE),
        ({"objectType": None, "object_type": "tile"}, ObjectKind.TILE),
        ({"objectType": None, "type": "detection"}, ObjectKind.DETECTION),
        ({"objectType": "something else"}, ObjectKind.ANNOTATION),
        ({"objectType": None}, ObjectKind.ANNOTATION),
    ],
)
def test_the_type_of_an_object_is_what_qupath_takes_it_for(
    tmp_path: Path, changes: dict[str, Any], kind: ObjectKind
) -> None:
    assert read(tmp_path, feature(**changes))[0].kind is kind


def test_the_type_outside_properties_counts_for_nothing_and_version_2_kept_it_in_the_id(
    tmp_path: Path,
) -> None:
    plain = feature(objectType=None)
    (found,) = read(tmp_path, {**plain, "objectType": "detection", "id": "detection_0"})
    assert (found.kind, found.id) == (ObjectKind.ANNOTATION, None)
    (found,) = read(tmp_path, {**plain, "id": "PathDetectionObject"})
    assert (found.kind, found.id) == (ObjectKind.DETECTION, None)


def test_measurements_in_every_form(tmp_path: Path) -> None:
    text = json.dumps(
        feature(measurements={"a": 1, "b": "NaN", "c": "-Infinity", "d": None, "e": True, "f": 0})
    )
    (found,) = read(tmp_path, text.replace('"f": 0', '"f": NaN'))
    assert found.measurements.keys() == {"a", "b", "c", "f"}
    assert found.measurements["a"] == 1
    assert found.measurements["c"] == -np.inf
    assert np.isnan([found.measurements["b"], found.measurements["f"]]).all()
    listed = [{"name": "a", "value": 1.5}, {"name": "b", "value": "NaN"}]
    assert read(tmp_path, feature(measurements=listed))[0].measurements["a"] == 1.5
    assert read(tmp_path, feature(measurements=None))[0].measurements == {}


def test_qupath_06_writes_metadata_twice(tmp_path: Path) -> None:
    text = json.dumps(feature(metadata={"a": "1"}))
    twice = text.replace('"metadata": {"a": "1"}', '"metadata": {"a": "1"}, "metadata": {"a": "1"}')
    assert twice != text
    assert read(tmp_path, twice)[0].metadata == {"a": "1"}


def test_objects_without_properties_geometry_or_id(tmp_path: Path) -> None:
    bare = {"type": "Feature", "geometry": None, "properties": None}
    point = {"type": "Point", "coordinates": [1, 2]}
    first, second = read(tmp_path, [bare, point])
    assert (first.id, first.roi, first.kind) == (None, None, ObjectKind.ANNOTATION)
    assert second.roi is not None
    assert second.roi.geometry == Point(1, 2)


def test_one_feature_or_a_list_or_a_collection_or_an_archive(tmp_path: Path) -> None:
    one = read(tmp_path, FEATURE)
    assert len(one) == 1
    for content in ([FEATURE], {"type": "FeatureCollection", "features": [FEATURE]}):
        assert read(tmp_path, content) == one
    (tmp_path / "a.geojson").write_bytes(gzip.compress(json.dumps(FEATURE).encode()))
    assert read_features(tmp_path / "a.geojson") == one
    (tmp_path / "a.geojson").write_bytes(b"\xef\xbb\xbf" + json.dumps(FEATURE).encode())
    assert read_features(tmp_path / "a.geojson") == one
    assert read(tmp_path, []) == []


def test_ids_that_stand_twice_are_both_read(tmp_path: Path) -> None:
    assert [str(thing.id) for thing in read(tmp_path, [FEATURE, FEATURE])] == [ID, ID]


@pytest.mark.parametrize("key", ["childObjects", "children"])
def test_children_follow_their_parents_and_the_root_is_left_out(tmp_path: Path, key: str) -> None:
    cell = {**feature(objectType="cell"), "id": str(uuid4()), "nucleusGeometry": FEATURE["geometry"]}
    parent = feature(objectType="annotation", **{key: [cell]})
    root = feature(objectType="root", **{key: [parent]})
    above, below = read(tmp_path, {"type": "FeatureCollection", "features": [root]})
    assert (str(above.id), below.kind, below.parent_id) == (ID, ObjectKind.CELL, UUID(ID))
    assert below.nucleus is not None


@pytest.mark.realdata
def test_what_qupath_exported_of_real_projects_is_read(data_dir: Path) -> None:
    count = sum(
        len(read_features(path)) for path in (data_dir / "breast-mitosis" / "geojson").glob("*.geojson")
    )
    assert count == 3200
    for path in (data_dir / "qupath-projects" / "coscia-0.6.0").rglob("*.geojson"):
        assert {thing.kind for thing in read_features(path)} <= {ObjectKind.ANNOTATION, ObjectKind.CELL}


# ---- what each row of the table is to the writer -------------------------------------------------


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda good: {name: value for name, value in good.items() if name != key}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (feature(classification={"names": ["Mitosis"]}), "no colour"),
        (feature(classification="Mitosis"), "no object with names"),
        (feature(classification={"names": [], "color": [1, 2, 3]}), "no name"),
        (feature(json.loads(shapely.to_geojson(BOW_TIE))), "crosses itself"),
        (
            {**FEATURE, "geometry": {"type": "MultiPolygon", "coordinates": [SQUARE, SQUARE]}},
            "crosses itself",
        ),
        ({**FEATURE, "geometry": {"type": "MultiPolygon", "coordinates": [SQUARE]}}, "one part"),
        (feature({"type": "GeometryCollection", "geometries": [FEATURE["geometry"]]}), "refuses"),
        (feature({"type": "MultiLineString", "coordinates": [[[0, 0], [1, 1]]]}), "refuses"),
        (feature(polygon([[0, 0], [0.1, 0], [0.1, 0.1], [0, 0]])), "degenerate"),
        ({**without("objectType")(feature(objectType=None)), "objectType": "detection"}, "not inside"),
        (feature(measurements={"a": None}), "no finite number"),
        (feature(measurements={"a": True}), "no finite number"),
        (feature(measurements={"a": "3"}), "no finite number"),
        (feature(measurements={"a": float("nan")}), "no finite number"),
        (feature(polygon([[0, 0], [9, 0], [9, 9]])), "ring is open"),
        ({**FEATURE, "geometry": None}, "missing"),
        ({**FEATURE, "properties": None}, "properties are missing"),
        ({**FEATURE, "id": "detection_0"}, "no UUID"),
        (without("id")(FEATURE), "no UUID"),
        (feature(color=[1, 2, 3]), "colour of its own"),
        (feature(metadata={"a": 1}), "no text"),
        ({**FEATURE, "type": "Point"}, "no Feature"),
    ],
)
def test_the_model_of_qupath_refuses_every_losing_shape(bad: dict[str, Any], message: str) -> None:
    validate_feature(FEATURE)
    with pytest.raises(GeoJsonError, match=message):
        validate_feature(bad)


def geometry_of(thing: PathObject) -> dict[str, Any]:
    made = to_feature(thing)
    assert made is not None
    geometry: dict[str, Any] = made["geometry"]
    return geometry


def test_a_bow_tie_becomes_its_two_wings() -> None:
    made = shapely.from_geojson(json.dumps(geometry_of(detection(BOW_TIE))))
    assert made.is_valid
    assert made.area == 50


def test_overlapping_parts_become_their_union_in_one_polygon() -> None:
    made = geometry_of(detection(MultiPolygon([box(0, 0, 5, 5), box(3, 3, 8, 8)]), RoiKind.GEOMETRY))
    assert (made["type"], shapely.from_geojson(json.dumps(made)).area) == ("Polygon", 46)


def test_of_a_collection_the_areas_stay() -> None:
    mixed = shapely.GeometryCollection(
        [Point(1, 1), LineString([(0, 0), (5, 5)]), MultiPolygon([box(0, 0, 5, 5), box(7, 7, 7.1, 7.1)])]
    )
    made = geometry_of(detection(mixed, RoiKind.GEOMETRY))
    assert made["type"] == "Polygon"
    assert shapely.from_geojson(json.dumps(made)).equals(box(0, 0, 5, 5))


def test_holes_stay_coordinates_have_two_decimals_and_rings_are_closed() -> None:
    outline = Polygon(
        [(0.123456, 0), (100.98765, 0), (100, 99.995), (0, 100)], [[(20, 20), (40, 20), (30, 40)]]
    )
    made = geometry_of(detection(outline, RoiKind.GEOMETRY))
    assert len(made["coordinates"]) == 2
    for ring in made["coordinates"]:
        assert ring[0] == ring[-1]
        assert all(value == round(value, 2) for place in ring for value in place)
    assert "0.12" in json.dumps(made)


def test_points_and_lines_and_ellipses_and_planes() -> None:
    assert geometry_of(detection(Point(1.005, 2.349), RoiKind.POINTS))["coordinates"] == [1.0, 2.35]
    assert geometry_of(detection(MultiPoint([(1, 2), (3, 4)]), RoiKind.POINTS))["type"] == "MultiPoint"
    assert geometry_of(detection(LineString([(1, 2), (3, 4)]), RoiKind.LINE))["type"] == "LineString"
    assert geometry_of(detection(Point(9, 9).buffer(5), RoiKind.ELLIPSE))["isEllipse"] is True
    above = replace(detection(Point()), roi=Roi(RoiKind.POLYGON, box(0, 0, 5, 5), Plane(-1, 2, 0)))
    assert geometry_of(above)["plane"] == {"c": -1, "z": 2, "t": 0}


@pytest.mark.parametrize(
    "nothing",
    [
        box(0, 0, 0.9, 1),
        Polygon([(0, 0), (9, 9), (18, 18)]),
        Polygon(),
        Point(np.nan, 0),
        Point(np.inf, 0),
        shapely.MultiLineString([[(0, 0), (1, 1)], [(2, 2), (3, 3)]]),
    ],
)
def test_an_object_of_which_nothing_is_left_is_not_written(tmp_path: Path, nothing: shapely.Geometry) -> None:
    path = tmp_path / "a.geojson"
    assert write_features(path, [detection(nothing), detection(box(0, 0, 5, 5))]) == 1
    assert len(read_features(path)) == 1


def test_class_without_colour_gets_one_and_a_colour_of_its_own_is_not_written() -> None:
    made = to_feature(detection(box(0, 0, 5, 5), color=5))
    assert made is not None
    assert made["properties"]["classification"] == {"names": ["Mitosis", "Normal"], "color": [214, 39, 40]}
    assert "color" not in made["properties"]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    things = [
        detection(Point(50, 60).buffer(9), metadata={"midog_qupath.run": "a"}, name="x", locked=True),
        detection(box(1, 2, 30, 40), kind=RoiKind.POLYGON, path_class=PathClass("A", -16711423)),
        detection(MultiPoint([(1, 2), (3, 4)]), RoiKind.POINTS, measurements={}),
    ]
    for compress in (False, True):
        path = tmp_path / f"{compress}.geojson"
        assert write_features(path, things, compress=compress) == 3
        found = read_features(path)
        for thing, back in zip(things, found, strict=True):
            assert (back.id, back.kind, back.class_name) == (thing.id, thing.kind, thing.class_name)
            assert (back.name, back.locked) == (thing.name, thing.locked)
            assert (back.measurements, back.metadata) == (thing.measurements, thing.metadata)
            assert thing.roi is not None
            assert back.roi is not None
            assert back.roi.geometry.hausdorff_distance(thing.roi.geometry) < 0.01
        assert found[1].path_class == PathClass("A", -16711423)
        # Written again, the same bytes: nothing drifts.
        assert write_features(tmp_path / "again", found, compress=compress) == 3
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_numbers_of_numpy_are_numbers() -> None:
    made = to_feature(detection(box(0, 0, 5, 5), measurements={"a": np.float32(0.5), "b": np.float64(1)}))
    assert made is not None
    assert made["properties"]["measurements"] == {"a": 0.5, "b": 1.0}


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    write_features(path, [detection(box(0, 0, 5, 5))])
    before = path.read_bytes()
    good = detection(box(0, 0, 5, 5))
    for bad, message in (
        (good, "Two objects"),
        (detection(box(0, 0, 5, 5), measurements={"p": np.nan}), "finite"),
        (PathObject(None, ObjectKind.DETECTION, good.roi), "no UUID"),
    ):
        with pytest.raises(GeoJsonError, match=message):
            write_features(path, [good, bad])
        assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.geojson"]


def test_no_objects_are_a_file_too(tmp_path: Path) -> None:
    assert write_features(tmp_path / "a.geojson", []) == 0
    assert json.loads((tmp_path / "a.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


places = st.tuples(st.floats(-50, 200_000, width=32), st.floats(-50, 200_000, width=32))
near = st.tuples(st.floats(0, 8), st.floats(0, 8))


@settings(deadline=None, max_examples=80)
@given(st.lists(places, min_size=3, max_size=9) | st.lists(near, min_size=3, max_size=12))
@example([(0, 0), (1, 1), (0, 1), (0, 2), (1, 1), (3.3e-17, 0)])
def test_whatever_outline_a_network_makes_is_written_validly(ring: list[tuple[float, float]]) -> None:
    for geometry in (Polygon(ring), MultiPolygon([Polygon(ring), Polygon(ring[::-1])])):
        made = to_feature(detection(geometry))  # which validates
        if made is not None:
            assert shapely.from_geojson(json.dumps(made["geometry"])).area >= 0.99


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(
        ["id", "geometry", "properties", *FEATURE["properties"], "name", "metadata", "childObjects"]
    ),
    JSON,
)
def test_a_feature_with_anything_anywhere_is_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    changed = feature(**{key: value}) if key not in FEATURE else {**FEATURE, key: value}
    try:
        read(tmp_path_factory.getbasetemp(), changed)
    except GeoJsonError as error:
        assert "a.geojson" in str(error)  # noqa: PT017
