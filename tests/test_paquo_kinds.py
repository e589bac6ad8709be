"""Every kind of object and shape that QuPath can hold comes out as it stands, and survives our edits."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import shapely
from shapely.geometry import Polygon, box

from midog_qupath.errors import StoreError
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Plane, Project, Roi, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore

pytestmark = [pytest.mark.qupath]
HOLED = Polygon(box(300, 300, 360, 360).exterior, [box(310, 310, 320, 320).exterior])


@pytest.fixture(scope="module")
def project(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose first image holds an object of every kind and shape."""
    source, target = data_dir / "breast-mitosis", tmp_path_factory.mktemp("kinds")
    shutil.copytree(source / "data" / "1", target / "data" / "1", copy_function=shutil.copyfile)
    (target / "data" / "1").chmod(0o755)
    text = (source / "project.qpproj").read_text(encoding="utf-8")
    images = (source / "images").as_uri()
    (target / "project.qpproj").write_text(
        text.replace("file:///data/breast-mitosis/images", images), encoding="utf-8"
    )
    script = Path(__file__).with_name("qupath_every_kind.py")
    command = [
        sys.executable,
        "-W",
        "ignore",
        script,
        target / "project.qpproj",
        "1",
        shapely.to_wkb(HOLED, True),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return open_project(target / "project.qpproj")


def test_every_kind_and_shape_is_read(project: Project) -> None:
    with PaquoStore(project) as store:
        objects = store.read(project.images[0])
    by_kind = {item.kind: item for item in objects}
    region = next(item for item in objects if item.class_name == "Region*")
    assert by_kind.keys() == set(ObjectKind)
    assert {item.roi.kind for item in objects} == set(RoiKind)
    assert (region.name, region.locked, region.color) == (
        "ä: \U0001f52c \n\"quoted\" 'n' \u2028",
        True,
        -65536,
    )
    assert (region.metadata, region.measurements) == ({"key": "value"}, {"fourth": 0.25})
    assert region.roi.plane == Plane(-1, 1, 2)
    cell, detection = by_kind[ObjectKind.CELL], by_kind[ObjectKind.DETECTION]
    assert (cell.parent_id, detection.parent_id) == (region.id, cell.id)
    assert cell.nucleus.geometry.bounds == pytest.approx((220, 220, 240, 240))
    assert str(cell.measurements) == "{'not a number': nan}"
    assert detection.measurements == {"endless": float("inf"), "third": pytest.approx(1 / 3, abs=1e-7)}
    assert any(item.roi.geometry.equals(HOLED) for item in objects)


def test_the_native_store_reads_the_same(project: Project) -> None:
    entry = project.images[0]
    with PaquoStore(project) as paquo, NativeStore(project) as native:
        by_qupath, by_us = paquo.read(entry), native.read(entry)
    for one, other in zip(by_qupath, by_us, strict=True):
        assert _comparable(one) == _comparable(other)
        assert one.roi.geometry.normalize().equals_exact(other.roi.geometry.normalize(), 0.01)


def _comparable(item: PathObject) -> tuple:
    plain = replace(item, roi=None, nucleus=None, measurements={})
    return plain, str(item.measurements), item.roi.kind, item.roi.plane, item.nucleus is None


def test_an_edit_beside_them_leaves_them_alone(project: Project) -> None:
    entry = project.images[0]
    new = PathObject(uuid4(), ObjectKind.DETECTION, Roi(RoiKind.POLYGON, HOLED), PathClass("Mitosis"))
    with PaquoStore(project) as store:
        before = store.read(entry)
        nested = next(item for item in before if item.kind is ObjectKind.DETECTION)
        edit = Edit(frozenset([nested.id]), (new,), store.fingerprint(entry))
        store.apply(entry, edit)
        after = store.read(entry)
        cell = next(item for item in after if item.kind is ObjectKind.CELL)
        with pytest.raises(StoreError, match="not a detection"):
            store.apply(entry, Edit(frozenset([cell.id]), (), store.fingerprint(entry)))
    assert {str(item) for item in after} - {str(item) for item in before} == {
        str(item) for item in after if item.id == new.id
    }
    assert {item.id for item in before} - {item.id for item in after} == {nested.id}
