"""QuPath's own classes read what we write, refuse what our rules refuse, and read files as we read them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import shapely
from shapely.geometry import MultiPoint, MultiPolygon, Point, Polygon, box
from test_project_geojson import BOW_TIE, FEATURE, SQUARE, detection, feature, polygon

from midog_qupath.errors import GeoJsonError
from midog_qupath.project.geojson import read_features, write_features
from midog_qupath.project.geojson_rules import validate_feature
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, RoiKind

pytestmark = pytest.mark.qupath

KINDS = {
    "PathDetectionObject": ObjectKind.DETECTION,
    "PathAnnotationObject": ObjectKind.ANNOTATION,
    "PathCellObject": ObjectKind.CELL,
    "PathTileObject": ObjectKind.TILE,
}


class QuPath:
    """What QuPath reads of many files, from one start of Java."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self.version = ""

    def add(self, name: str, suffix: str = ".geojson") -> Path:
        self._files[name] = self._folder / f"{len(self._files)}{suffix}"
        return self._files[name]

    def run(self) -> None:
        program = Path(__file__).with_name("qupath_reads.py")
        command = [sys.executable, str(program), *map(str, self._files.values())]
        done = subprocess.run(command, capture_output=True, check=True, timeout=120, encoding="utf-8")
        version, *answers = map(json.loads, done.stdout.splitlines())
        self.version, self._answers = version, dict(zip(self._files, answers, strict=True))

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._answers[name]

    def path(self, name: str) -> Path:
        return self._files[name]


def star(rng: random.Random, x: float, y: float, corners: int) -> Polygon:
    """An outline that mostly crosses itself."""
    return Polygon([(x + rng.uniform(-20, 20), y + rng.uniform(-20, 20)) for _ in range(corners)])


def ours() -> list[PathObject]:
    rng = random.Random(5)
    things = [
        detection(star(rng, rng.uniform(0, 90_000), rng.uniform(0, 90_000), rng.randint(3, 12)))
        for _ in range(150)
    ]
    things += [
        detection(BOW_TIE),
        detection(MultiPolygon([box(0, 0, 5, 5), box(3, 3, 8, 8)]), RoiKind.GEOMETRY),
        detection(Polygon(SQUARE[0], [[(2, 2), (4, 2), (4, 4)]]), RoiKind.GEOMETRY),
        detection(Point(5, 5), RoiKind.POINTS),
        detection(MultiPoint([(5, 5), (6, 6)]), RoiKind.POINTS),
        detection(Point(50, 50).buffer(20), RoiKind.ELLIPSE, path_class=PathClass("Own", -16711423)),
        detection(Point(50, 50).buffer(5), metadata={"midog_qupath.run": "a"}),
    ]
    return things


#: Rows of the pitfalls table that every QuPath from 0.6 on refuses with the whole file.
REFUSED = {
    "no colour": feature(classification={"names": ["Mitosis"]}),
    "bow tie": feature(json.loads(shapely.to_geojson(BOW_TIE))),
    "overlap": feature(
        {"type": "MultiPolygon", "coordinates": [SQUARE, [[[3, 3], [12, 3], [12, 12], [3, 3]]]]}
    ),
    "collection": feature({"type": "GeometryCollection", "geometries": [FEATURE["geometry"]]}),
    "text": feature(measurements={"a": "many"}),
    "open": feature(polygon([[0, 0], [9, 0], [9, 9]])),
    "no geometry": {**FEATURE, "geometry": None},
    "no properties": {**FEATURE, "properties": None},
}

#: What QuPath reads, in the forms that are about.
READ = {
    "type outside": {**feature(objectType=None), "objectType": "detection"},
    "version 2": {**feature(objectType=None), "id": "PathDetectionObject"},
    "object_type": feature(objectType=None, object_type="tile"),
    "type": feature(objectType=None, type="cell"),
    "unknown": feature(objectType="Detection"),
    "no type": feature(objectType=None),
    "plain class": feature(classification="Mitosis:Atypical"),
    "no id": {key: value for key, value in FEATURE.items() if key != "id"},
    "list": feature(measurements=[{"name": "a", "value": 2.5}]),
    "nothing": feature(measurements={"a": None, "b": True, "c": 1}),
    "ellipse": feature({**FEATURE["geometry"], "isEllipse": True}),
    "points": feature({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}),
    "child": feature(objectType="annotation", childObjects=[{**feature(), "id": str(uuid4())}]),
}


@pytest.fixture(scope="module")
def qupath(tmp_path_factory: pytest.TempPathFactory) -> QuPath:
    reader = QuPath(tmp_path_factory.mktemp("geojson"))
    things = ours()
    write_features(reader.add("plain"), things)
    write_features(reader.add("packed", ".geojson.gz"), things, compress=True)
    for name, content in {**REFUSED, **READ}.items():
        reader.add(name).write_text(json.dumps(content), encoding="utf-8")
    reader.run()
    return reader


@pytest.mark.parametrize("name", ["plain", "packed"])
def test_qupath_reads_all_that_we_write(qupath: QuPath, name: str) -> None:
    path = qupath.path(name)
    mine = {str(thing.id): thing for thing in read_features(path)}
    theirs = {thing["id"]: thing for thing in qupath[name]["objects"]}
    assert theirs.keys() == mine.keys()
    for identity, thing in mine.items():
        found = theirs[identity]
        assert thing.path_class is not None
        assert thing.roi is not None
        assert (KINDS[found["kind"]], found["class"]) == (thing.kind, thing.class_name)
        assert found["measurements"] == pytest.approx(dict(thing.measurements), rel=1e-6)
        if thing.roi.kind is RoiKind.POINTS:
            assert found["points"] == len(shapely.get_parts(thing.roi.geometry))
        elif thing.roi.kind is not RoiKind.ELLIPSE:
            # Storing corners as 32-bit numbers moves them by less than 0.01 px up to 131,072 px.
            assert found["area"] == pytest.approx(
                thing.roi.geometry.area, abs=0.01 * thing.roi.geometry.length
            )
    own = [thing for thing in theirs.values() if thing["class"] == "Own"]
    assert [(thing["color"], thing["roi"]) for thing in own] == [(-16711423, "Ellipse")]


@pytest.mark.parametrize("name", REFUSED)
def test_what_our_rules_refuse_qupath_refuses(qupath: QuPath, name: str) -> None:
    with pytest.raises(GeoJsonError):
        validate_feature(REFUSED[name])
    if qupath.version.startswith("0.5") and name in ("bow tie", "overlap", "collection"):
        pytest.skip("QuPath 0.5 still takes it")
    assert "error" in qupath[name]


@pytest.mark.parametrize("name", READ)
def test_we_read_what_is_about_as_qupath_does(qupath: QuPath, name: str) -> None:
    first, *_ = read_features(qupath.path(name))
    (theirs,) = qupath[name]["objects"]
    assert (first.kind, first.class_name) == (KINDS[theirs["kind"]], theirs["class"])
    assert first.id is None or str(first.id) == theirs["id"]
    assert first.measurements == pytest.approx(theirs["measurements"], rel=1e-6)
    assert len(read_features(qupath.path(name))) == 1 + theirs["children"]
