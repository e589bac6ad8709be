"""The paquo store reads what stands in the project and writes what it is given, or says why not and changes
nothing. One QuPath process and one project serve all tests here; each works on images of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import jpype
import pytest
from shapely.geometry import Polygon, box, shape

from midog_qupath.errors import QuPathMissingError, StoreError
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.paquo import PaquoStore, find_qupath

pytestmark = [pytest.mark.qupath, pytest.mark.realdata]
NOTHING: frozenset = frozenset()


@pytest.fixture(scope="module")
def project(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    source = data_dir / "breast-mitosis"
    target = tmp_path_factory.mktemp("paquo") / "v1.2 project"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("images"))
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755)  # the data may be read-only
    try:
        (target / "images").symlink_to(source / "images", target_is_directory=True)
    except OSError:
        shutil.copytree(source / "images", target / "images")
    return open_project(target / "project.qpproj")


@pytest.fixture(scope="module")
def store(project: Project) -> Iterator[PaquoStore]:
    with PaquoStore(project, timeout_s=60) as store:
        yield store


@pytest.fixture
def _put_back(project: Project) -> Iterator[None]:
    """For tests that damage image 1: its data as before for the next test."""
    folder = project.images[0].data_dir
    before = {path: path.read_bytes() for path in folder.iterdir()}
    yield
    for path in folder.iterdir():
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)


def detection(x: float, y: float, **changes: object) -> PathObject:
    values: dict = {
        "id": uuid4(),
        "kind": ObjectKind.DETECTION,
        "roi": Roi(RoiKind.POLYGON, Polygon([(x, y), (x + 20, y), (x + 25, y + 30), (x, y + 18)])),
        "path_class": PathClass("Mitosis: Atypical", -3669761),
        "measurements": {"Mitosis probability": 0.93, "midog run": 20261123.0},
    }
    return PathObject(**(values | changes))


def put(store: PaquoStore, entry: ImageEntry, *new: PathObject) -> None:
    store.apply(entry, Edit(NOTHING, new, store.fingerprint(entry)))


def saved_bytes(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if "images" not in path.relative_to(folder).parts)
    return {path: path.read_bytes() for path in files if path.is_file()}


def test_all_objects_equal_the_geojson_that_qupath_exported(project: Project, data_dir: Path) -> None:
    count = 0
    with PaquoStore(project) as store:
        for entry in project.images:
            file = data_dir / "breast-mitosis" / "geojson" / f"{entry.stem}.geojson"
            features = {item["id"]: item for item in json.loads(file.read_text())["features"]}
            objects = store.read(entry)
            assert {str(item.id) for item in objects} == features.keys()
            for item in objects:
                feature = features[str(item.id)]
                assert item.kind == feature["properties"]["objectType"]
                assert item.class_name == _class_name(feature)
                assert item.name == feature["properties"].get("name")
                assert item.measurements == pytest.approx(feature["properties"].get("measurements", {}))
                assert item.roi.geometry.normalize().equals_exact(
                    shape(feature["geometry"]).normalize(), 0.01
                )
            count += len(objects)
    assert count == 3200


def _class_name(feature: dict) -> str:
    classification = feature["properties"]["classification"]
    return ": ".join(classification.get("names") or [classification["name"]])


def test_cells_keep_parents_and_every_shape_is_read(data_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data_dir / "qupath-projects" / "coscia-0.6.0", tmp_path / "p")
    project = open_project(folder / "project.qpproj")
    with PaquoStore(project) as store:
        objects = store.read(project.images[0])
    cells = [item for item in objects if item.kind is ObjectKind.CELL]
    known = [item.id for item in objects]
    assert len(cells) == 121
    assert all(cell.measurements for cell in cells)
    assert {item.roi.kind for item in objects} == {
        RoiKind.RECTANGLE,
        RoiKind.ELLIPSE,
        RoiKind.POLYGON,
        RoiKind.POINTS,
    }
    below = [item for item in objects if item.parent_id is not None]
    assert below
    assert all(known.index(item.parent_id) < known.index(item.id) for item in below)


def test_a_file_too_old_for_ids_has_none(data_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data_dir / "qupath-projects" / "stardist-0.2.0-m12", tmp_path / "p")
    project = open_project(folder / "project.qpproj")
    with PaquoStore(project) as store:
        objects = store.read(project.images[0])
    assert len(objects) == 19
    assert all(item.id is None and item.roi.geometry.area > 0 for item in objects)


@pytest.mark.usefixtures("_put_back")
def test_a_damaged_file_is_an_error_and_not_an_empty_image(project: Project, store: PaquoStore) -> None:
    entry, other = project.images[:2]
    path, summary = entry.data_dir / "data.qpdata", entry.data_dir / "summary.json"
    data, counts = path.read_bytes(), summary.read_text()
    for size in (0, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(StoreError, match=f"{entry.name}.*cut off"):
            store.read(entry)
    path.write_bytes(data)
    summary.write_text(counts.replace('"nObjects":2', '"nObjects":21'))
    with pytest.raises(StoreError, match=r"reads 1 objects.*says 20"):
        store.read(entry)
    summary.write_text(counts[:30])
    with pytest.raises(StoreError, match=r"summary.json cannot be understood"):
        store.read(entry)
    path.rename(path.with_name("data.qpdata.bkp"))
    with pytest.raises(StoreError, match="interrupted"):
        store.read(entry)
    assert len(store.read(other)) == 2


@pytest.mark.usefixtures("_put_back")
def test_qupath_that_never_answers_is_ended_and_the_next_image_works(project: Project) -> None:
    entry, other = project.images[:2]
    path = entry.data_dir / "data.qpdata"
    data = path.read_bytes()
    # The last content in place but the hierarchy gone: QuPath looks for it for ever, a line each time.
    path.write_bytes(data[: data.index(b"PathObjectHierarchy")] + data[-6:])
    with PaquoStore(project, timeout_s=2) as store:
        with pytest.raises(StoreError, match=rf"within 2 s.*{entry.name}"):
            store.read(entry)
        assert len(store.read(other)) == 2


def test_a_qupath_that_dies_is_started_again(project: Project, store: PaquoStore) -> None:
    assert store.read(project.images[1])
    store._worker._process.kill()
    store._worker._process.wait()
    assert store.read(project.images[1])


def test_reading_changes_no_file_and_starts_no_java_machine_here(project: Project, store: PaquoStore) -> None:
    before = saved_bytes(project.folder)
    for entry in project.images[:3]:
        store.read(entry)
    assert saved_bytes(project.folder) == before
    assert not jpype.isJVMStarted()


def test_without_qupath_the_remedy_is_named(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path / "nothing"))
    assert find_qupath() is None
    with pytest.raises(QuPathMissingError, match="paquo get_qupath"), PaquoStore(project):
        pass


def test_detections_come_in_and_go_out_and_nothing_else_changes(project: Project, store: PaquoStore) -> None:
    entry = project.images[60]
    before, files = store.read(entry), saved_bytes(project.folder)
    holed = Polygon(box(500, 500, 560, 560).exterior, [box(510, 510, 520, 520).exterior])
    new = [
        detection(10, 10),
        detection(40.25, 90.5, path_class=PathClass("Mitosis: Normal"), name="seen"),
        detection(0, 0, roi=Roi(RoiKind.GEOMETRY, holed)),
    ]
    put(store, entry, *new)
    read = {item.id: item for item in store.read(entry)}
    for given in new:
        found = read[given.id]
        assert (found.kind, found.class_name, found.name) == (given.kind, given.class_name, given.name)
        assert found.measurements == pytest.approx(given.measurements, rel=1e-6)
        assert found.parent_id is None
        assert found.roi.geometry.equals(given.roi.geometry)
    assert [read[item.id] for item in before] == before

    again = detection(10, 12, id=new[0].id)
    store.apply(entry, Edit(frozenset(item.id for item in new), (again,), store.fingerprint(entry)))
    assert {item.id for item in store.read(entry)} == {item.id for item in before} | {again.id}

    summary = json.loads((entry.data_dir / "summary.json").read_bytes())["hierarchy"]
    assert summary["nObjects"] == len(before) + 2
    assert summary["detectionClassificationCounts"] == {"Mitosis: Atypical": 1}
    # Of the whole project only this image's data and summary are others now: no project.qpproj, no leftovers.
    after = saved_bytes(project.folder)
    assert {path.relative_to(entry.data_dir).name for path in after if after[path] != files.get(path)} <= {
        "data.qpdata",
        "summary.json",
        "server.json",
    }
    assert after.keys() == files.keys()


def test_a_history_does_not_grow_with_each_run(project: Project, store: PaquoStore) -> None:
    entry, new = project.images[3], detection(1, 1)
    sizes = []
    for _ in range(3):
        put(store, entry, new)
        store.apply(entry, Edit(frozenset([new.id]), (), store.fingerprint(entry)))
        sizes.append((entry.data_dir / "data.qpdata").stat().st_size)
    assert len(set(sizes)) == 1


@pytest.mark.usefixtures("_put_back")
def test_without_the_slide_it_saves_or_says_that_it_cannot(project: Project, store: PaquoStore) -> None:
    entry, new = replace(project.images[0], path=None), detection(5, 5)
    files = saved_bytes(project.folder)
    if next((find_qupath() / "lib" / "app").glob("qupath-core-0.5.*.jar"), None):
        with pytest.raises(StoreError, match="needs the slide"):
            put(store, entry, new)
        assert saved_bytes(project.folder) == files
    else:
        put(store, entry, new)
        assert new.id in {item.id for item in store.read(entry)}


def test_an_image_never_opened_in_qupath_gets_its_first_data(project: Project, store: PaquoStore) -> None:
    entry, new = project.images[4], detection(5, 5)
    for path in entry.data_dir.iterdir():
        path.unlink()
    entry.data_dir.rmdir()
    assert (store.read(entry), store.fingerprint(entry)) == ([], "")
    put(store, entry, new)
    assert [item.id for item in store.read(entry)] == [new.id]
    assert json.loads((entry.data_dir / "summary.json").read_bytes())["imageType"] == "BRIGHTFIELD_H_E"


@pytest.mark.usefixtures("_put_back")
def test_new_classes_get_their_colour_and_old_ones_keep_theirs(project: Project, store: PaquoStore) -> None:
    entry = project.images[0]
    before = {item.class_name: item.path_class for item in store.read(entry)}
    store.ensure_classes([PathClass("Mitosis", 0xFF010203), PathClass("Doubtful: Blurred", 0xFF0A0B0C)])
    new = detection(5, 5, path_class=PathClass("Doubtful: Blurred", 0xFF999999))
    put(store, entry, new)
    classes = {item.class_name: item.path_class for item in store.read(entry)}
    assert classes["Doubtful: Blurred"].color == 0xFF0A0B0C - 2**32
    assert classes["Mitosis"] == before["Mitosis"]


@pytest.mark.usefixtures("_put_back")
def test_edits_that_would_harm_are_refused_and_change_nothing(project: Project, store: PaquoStore) -> None:
    entry = project.images[0]
    person = store.read(entry)[0]
    ours, now = detection(5, 5), store.fingerprint(entry)
    bow_tie = Roi(RoiKind.POLYGON, Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]))
    files = saved_bytes(project.folder)
    refused = {
        "saved by another program": Edit(NOTHING, (ours,), "0" * 64),
        "not a detection without children": Edit(frozenset([person.id]), (), now),
        f"{ours.id} of image .* is not a detection": Edit(frozenset([ours.id]), (), now),
        "repeat the ids": Edit(NOTHING, (replace(ours, id=person.id),), now),
        "not a valid area": Edit(NOTHING, (replace(ours, roi=bow_tie),), now),
        "not a detection with": Edit(NOTHING, (replace(ours, kind=ObjectKind.ANNOTATION),), now),
        "not finite": Edit(NOTHING, (replace(ours, measurements={"a": float("nan")}),), now),
        # A 32-bit number cannot hold it: noticed after QuPath has saved, and put back.
        "not as it was written": Edit(NOTHING, (replace(ours, measurements={"a": 1e300}),), now),
    }
    for message, edit in refused.items():
        with pytest.raises(StoreError, match=message):
            store.apply(entry, edit)
        assert saved_bytes(project.folder) == files
    backup = entry.data_dir / "data.qpdata.bkp"
    backup.write_bytes(b"all that is left of an afternoon")
    with pytest.raises(StoreError, match="interrupted"):
        put(store, entry, ours)
    assert saved_bytes(project.folder) == files | {backup: b"all that is left of an afternoon"}


@pytest.mark.usefixtures("_put_back")
@pytest.mark.parametrize("limit_s", [0.002, 0.012])
def test_a_time_limit_in_the_middle_of_a_save_leaves_all_or_nothing(
    project: Project, store: PaquoStore, limit_s: float
) -> None:
    entry, new = project.images[0], [detection(k, k) for k in range(100)]
    before, files = store.read(entry), saved_bytes(project.folder)
    store._worker._limit_s = limit_s
    try:
        put(store, entry, *new)
    except StoreError:
        assert saved_bytes(project.folder) == files
    else:
        assert len(store.read(entry)) == len(before) + 100
    assert saved_bytes(project.folder).keys() == files.keys()
