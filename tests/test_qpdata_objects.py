"""Objects come out of data files as QuPath itself exports them; damaged files never pass for others."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from native_images import drawings, new_bytes
from shapely.geometry import shape

from midog_qupath.errors import QpdataError
from midog_qupath.project.classes_file import java_int
from midog_qupath.project.model import ObjectKind, PathObject, RoiKind
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.objects import objects
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore

HALF_CENT = 0.0051  # QuPath rounds coordinates to 0.01 px when it exports


def exported(path: Path) -> dict[str, dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    features = content["features"] if isinstance(content, dict) else content
    return {feature["id"]: feature for feature in features}


def assert_equal(thing: PathObject, feature: dict[str, Any]) -> None:
    properties = feature["properties"]
    assert thing.kind == properties["objectType"]
    wanted = properties.get("classification")
    assert (thing.path_class is None) == (wanted is None)
    if wanted:
        assert thing.class_name == (wanted.get("name") or ": ".join(wanted["names"]))
        red, green, blue = wanted["color"]
        assert thing.path_class.color == java_int(0xFF000000 | red << 16 | green << 8 | blue)
    assert thing.name == properties.get("name")
    assert thing.locked == properties.get("isLocked", False)
    assert thing.measurements == pytest.approx(properties.get("measurements", {}), rel=1e-6, nan_ok=True)
    assert_same_shape(thing, feature["geometry"])


def assert_same_shape(thing: PathObject, wanted: dict[str, Any]) -> None:
    found, geometry = thing.roi.geometry, shape(wanted)
    if wanted.get("isEllipse"):
        assert thing.roi.kind is RoiKind.ELLIPSE
    else:
        # QuPath may write points and corners in another order.
        found, geometry = (one if one.area == 0 else one.boundary for one in (found, geometry))
        assert shapely.hausdorff_distance(found, geometry) < 2 * HALF_CENT
    assert np.allclose(found.bounds, geometry.bounds, atol=2 * HALF_CENT, rtol=0)


@pytest.mark.realdata
def test_all_images_of_the_real_project_read_as_qupath_exported_them(data_dir: Path) -> None:
    project = open_project(data_dir / "breast-mitosis")
    store, count = NativeStore(project), 0
    for entry in project.images:
        found = store.read(entry)
        wanted = exported(project.folder / "geojson" / f"{entry.stem}.geojson")
        assert [str(thing.id) for thing in found] == list(wanted)
        for thing in found:
            assert_equal(thing, wanted[str(thing.id)])
        count += len(found)
    assert (len(project.images), count) == (70, 3200)


@pytest.mark.realdata
def test_cells_points_and_ellipses_read_as_qupath_exported_them(data_dir: Path) -> None:
    project = open_project(data_dir / "qupath-projects" / "coscia-0.6.0")
    found = NativeStore(project).read(project.images[0])
    wanted = exported(project.folder / "Single_cells.geojson")
    assert {str(thing.id) for thing in found} == wanted.keys()
    for thing in found:
        assert_equal(thing, wanted[str(thing.id)])
    assert Counter(thing.kind for thing in found) == {ObjectKind.CELL: 121, ObjectKind.ANNOTATION: 10}
    region = next(thing for thing in found if thing.class_name == "class_1")
    assert {thing.parent_id for thing in found} <= {None, region.id}


def test_what_was_built_reads_as_it_was_given() -> None:
    given_things = drawings()
    for given, found in zip(given_things, objects(read_document(new_bytes(given_things))), strict=True):
        assert found.roi.geometry.bounds == pytest.approx(given.roi.geometry.bounds, abs=1e-4)
        for name in ("id", "kind", "path_class", "name", "measurements", "metadata", "locked", "parent_id"):
            assert getattr(found, name) == getattr(given, name), name
        assert (found.roi.kind, found.roi.plane) == (given.roi.kind, given.roi.plane)


def damaged(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Truncated at many places, and with one to three bytes changed, by turns."""
    rng = random.Random(seed)
    for _ in range(count):
        yield data[: rng.randrange(len(data))]
        copy = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            copy[rng.randrange(len(copy))] = rng.choice([rng.randrange(256), 0x70, 0x71, 0x73, 0x78])
        yield bytes(copy)


def read_quietly(data: bytes) -> bool:
    try:
        objects(read_document(data))
    except QpdataError:
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
def test_damage_is_one_clear_error_or_harmless(seed: int) -> None:
    data = new_bytes(drawings())
    read = [read_quietly(copy) for copy in damaged(data, seed, 150)]
    assert not any(read[::2]), "a truncated file was read"
    assert not all(read)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "path", ["breast-mitosis/data/36/data.qpdata", "qupath-projects/stardist-0.2.0-m12/data/1/data.qpdata"]
)
def test_damage_to_real_files_is_one_clear_error_or_harmless(data_dir: Path, path: str) -> None:
    read = [read_quietly(copy) for copy in damaged((data_dir / path).read_bytes(), 5, 100)]
    assert not any(read[::2]), "a truncated file was read"
