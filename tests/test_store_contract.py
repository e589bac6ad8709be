"""One contract for all stores: whatever way to a project's objects is taken, the same holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import cv2
import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPoint, Point, Polygon, box
from store_objects import detection, detections, files, ids, require_same

from midog_qupath.doctor import qupath_version
from midog_qupath.errors import QuPathMissingError, StoreError
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.geojson import read_features, write_features
from midog_qupath.project.hotspots import hotspot_object
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.base import Edit, ProjectStore
from midog_qupath.project.stores.choose import choose_store, people_objects
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore, find_qupath
from midog_qupath.project.stores.sidecar import SidecarStore

IMAGES = 11
STORES: dict[str, Callable[[Project], ProjectStore]] = {
    "native": NativeStore,
    "sidecar": SidecarStore,
    "paquo": PaquoStore,
}
NONE: frozenset[UUID] = frozenset()
HOLED = Polygon(box(50, 50, 90, 90).exterior, [box(60, 60, 70, 70).exterior])


def drawn(geometry: shapely.Geometry, kind: RoiKind, class_name: str | None) -> PathObject:
    path_class = PathClass(class_name, -65536) if class_name else None
    return PathObject(uuid4(), ObjectKind.ANNOTATION, Roi(kind, geometry), path_class, name="by hand")


def annotations() -> list[PathObject]:
    return [
        drawn(box(10, 20, 40.5, 60), RoiKind.RECTANGLE, "Mitosis"),
        drawn(Polygon([(5, 5), (30, 8), (20, 30.25)]), RoiKind.POLYGON, "Mitosis: Normal"),
        drawn(
            Polygon(box(50, 50, 90, 90).exterior, [box(60, 60, 70, 70).exterior]), RoiKind.GEOMETRY, "Region*"
        ),
        drawn(MultiPoint([(3, 4), (80.5, 90)]), RoiKind.POINTS, "Non-mitosis"),
        drawn(box(0, 0, 100, 100), RoiKind.RECTANGLE, None),
    ]


@dataclass
class Opened:
    """A store of a project, and images of it that no test has touched yet."""

    project: Project
    store: ProjectStore
    fresh: Iterator[ImageEntry]
    keeps_metadata: bool = True

    def require_same(self, entry: ImageEntry, wanted: Sequence[PathObject]) -> None:
        """An image holds these objects."""
        require_same(self.store.read(entry), wanted, self.keeps_metadata)

    def people(self, entry: ImageEntry) -> list[PathObject]:
        return [thing for thing in self.store.read(entry) if thing.kind is ObjectKind.ANNOTATION]

    def put(self, entry: ImageEntry, *new: PathObject, remove: frozenset[UUID] = NONE) -> None:
        self.store.apply(entry, Edit(remove, new, self.store.fingerprint(entry)))


@pytest.fixture(scope="module", params=["native", "sidecar", pytest.param("paquo", marks=pytest.mark.qupath)])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A generated project, each image with annotations of all kinds; the last image without data."""
    folder = tmp_path_factory.mktemp(request.param)
    images = []
    for number in range(IMAGES):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((120, 130, 3), 200, np.uint8))
        images.append(NewImage(path, mpp=0.25))
    project = create_project(folder / "p", images)
    for entry in project.images[:-1]:
        NativeStore(project).create(entry, annotations())
        things = NativeStore(project).read(entry)
        write_features(project.ours / "ground-truth" / f"{entry.stem}.geojson", things)
    with STORES[request.param](project) as store:
        yield Opened(project, store, iter(project.images[1:-1]), keeps_metadata(request.param))


def keeps_metadata(store: str) -> bool:
    """Whether detections keep metadata: through QuPath since 0.6."""
    version, _ = qupath_version() if store == "paquo" else (None, "")
    return version is None or tuple(map(int, version.split(".")[:2])) >= (0, 6)


def test_what_stands_in_an_image_is_read_as_it_was_drawn(opened: Opened) -> None:
    entry = opened.project.images[0]
    opened.require_same(entry, NativeStore(opened.project).read(entry))
    assert [thing.class_name for thing in opened.store.read(entry)].count(None) == 1


def test_detections_come_in_and_go_out_and_people_s_objects_stay(opened: Opened) -> None:
    entry = next(opened.fresh)
    before, new = opened.store.read(entry), detections(range(30))
    opened.put(entry, *new)
    opened.require_same(entry, [*before, *new])
    gone = ids(new[:10])
    opened.put(entry, detection(99), remove=gone)
    opened.require_same(entry, [*before, *new[10:], detection(99)])
    opened.put(entry, remove=ids(new[10:]) | ids([detection(99)]))
    opened.require_same(entry, before)


def test_a_detection_is_replaced_under_its_own_id(opened: Opened) -> None:
    entry = next(opened.fresh)
    opened.put(entry, detection(1))
    moved = replace(detection(2), id=detection(1).id, path_class=PathClass("Mitosis: Normal", -16776961))
    opened.put(entry, moved, remove=ids([moved]))
    found = [thing for thing in opened.store.read(entry) if thing.id == moved.id]
    require_same(found, [moved], opened.keeps_metadata)


def test_points_ellipses_and_holes_are_detections_too(opened: Opened) -> None:
    entry = next(opened.fresh)
    new = [
        detection(1, roi=Roi(RoiKind.POINTS, Point(5.5, 6))),
        detection(2, roi=Roi(RoiKind.GEOMETRY, HOLED)),
        detection(3, measurements={}, metadata={}),
    ]
    opened.put(entry, *new)
    found = [thing for thing in opened.store.read(entry) if thing.kind is ObjectKind.DETECTION]
    require_same(found, new, opened.keeps_metadata)


def test_labels_come_in_as_annotations_beside_what_is_there(opened: Opened) -> None:
    entry = next(opened.fresh)
    before, now = opened.store.read(entry), opened.store.fingerprint(entry)
    labels = tuple(replace(thing, id=uuid4()) for thing in annotations())
    if not opened.store.writes_project:
        with pytest.raises(StoreError, match="import-labels"):
            opened.store.apply(entry, Edit(NONE, (), now, labels))
        return
    opened.store.apply(entry, Edit(NONE, (detection(1),), now, labels))
    opened.require_same(entry, [*before, detection(1), *labels])
    # What is a detection is no label, and what is a label no detection.
    seen = files(opened.project.folder)
    for edit in (Edit(NONE, labels[:1], now), Edit(NONE, (), now, (detection(2),))):
        with pytest.raises(StoreError):
            opened.store.apply(entry, replace(edit, expected=opened.store.fingerprint(entry)))
        assert files(opened.project.folder) == seen


def test_a_count_of_ours_goes_out_where_another_comes_in(opened: Opened) -> None:
    entry = next(opened.fresh)
    if not opened.store.writes_project:
        return
    before = opened.store.read(entry)
    first, second = (hotspot(number) for number in (1, 2))
    opened.store.apply(entry, Edit(NONE, (), opened.store.fingerprint(entry), (first,)))
    opened.store.apply(entry, Edit(ids([first]), (), opened.store.fingerprint(entry), (second,)))
    opened.require_same(entry, [*before, second])


def hotspot(number: int) -> PathObject:
    return hotspot_object(box(10, 10, 50 + number, 50), True, f"count {number}", "1", {"Mitotic count": 3.0})


def test_an_edit_of_an_image_that_changed_meanwhile_is_refused(opened: Opened) -> None:
    entry = next(opened.fresh)
    seen = opened.store.fingerprint(entry)
    opened.store.read(entry)
    assert opened.store.fingerprint(entry) == seen
    opened.put(entry, detection(1))
    assert opened.store.fingerprint(entry) != seen
    before = files(opened.project.folder)
    with pytest.raises(StoreError):
        opened.store.apply(entry, Edit(NONE, (detection(2),), seen))
    assert files(opened.project.folder) == before


def test_edits_that_would_harm_are_refused_and_change_nothing(opened: Opened) -> None:
    entry = next(opened.fresh)
    opened.put(entry, detection(1))
    before, now = files(opened.project.folder), opened.store.fingerprint(entry)
    person = opened.people(entry)[0]
    edits = [
        Edit(ids([person]), (), now),
        Edit(frozenset([uuid4()]), (), now),
        Edit(NONE, (detection(1),), now),
        Edit(NONE, (replace(person, id=uuid4()),), now),
        Edit(NONE, (detection(2, id=None),), now),
        Edit(NONE, (detection(2), detection(2)), now),
        Edit(NONE, (detection(2, measurements={"p": float("nan")}),), now),
        Edit(NONE, (detection(2, roi=None),), now),
    ]
    for edit in edits:
        with pytest.raises(StoreError):
            opened.store.apply(entry, edit)
        assert files(opened.project.folder) == before


def test_only_the_image_that_was_edited_changes(opened: Opened) -> None:
    entry = next(opened.fresh)
    before = files(opened.project.folder)
    opened.put(entry, detection(1))
    after = files(opened.project.folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    own = f"data/{entry.entry_id}/" if opened.store.writes_project else "midog-qupath/sidecar/"
    assert changed
    assert all(Path(name).as_posix().startswith(own) for name in changed)


def test_an_image_that_was_never_opened_has_no_objects_and_takes_its_first(opened: Opened) -> None:
    entry = opened.project.images[-1]
    assert opened.store.read(entry) == []
    opened.put(entry, detection(1))
    opened.require_same(entry, [detection(1)])


def test_an_image_of_another_project_is_not_written(opened: Opened) -> None:
    stranger = replace(
        opened.project.images[0], entry_id="999", stem="999", data_dir=opened.project.folder / "data" / "999"
    )
    before = files(opened.project.folder)
    with pytest.raises(StoreError):
        opened.put(stranger, detection(1))
    assert files(opened.project.folder) == before


def test_damaged_data_are_an_error_and_never_an_empty_image(opened: Opened) -> None:
    entry = next(opened.fresh)
    truth = opened.project.ours / "ground-truth" / f"{entry.stem}.geojson"
    path = entry.data_dir / "data.qpdata" if opened.store.writes_project else truth
    whole = path.read_bytes()
    for size in (len(whole) // 2, 10, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError):
            opened.store.read(entry)
    path.write_bytes(whole)
    assert len(opened.people(entry)) == 5


def test_classes_are_added_and_those_of_the_project_stay(opened: Opened) -> None:
    path = opened.project.folder / "classifiers" / "classes.json"
    before = json.loads(path.read_text(encoding="utf-8"))["pathClasses"]
    opened.store.ensure_classes([PathClass("Mitosis", 1), PathClass("Doubtful", -256)])
    opened.store.ensure_classes([PathClass("Doubtful", 5)])
    after = json.loads(path.read_text(encoding="utf-8"))["pathClasses"]
    assert after == [*before, {"name": "Doubtful", "color": -256}]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["native", "sidecar", pytest.param("paquo", marks=pytest.mark.qupath)])
def test_real_images_equal_what_qupath_exported(data_dir: Path, tmp_path: Path, name: str) -> None:
    source, target = data_dir / "breast-mitosis", tmp_path / "p"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("images", "*.jpg"))
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755)  # the data may be read-only
    shutil.copytree(source / "geojson", target / "midog-qupath" / "ground-truth")
    project = open_project(target)
    with STORES[name](project) as store:
        for entry in (*project.images[:60:20], *project.images[-2:]):
            before = store.read(entry)
            require_same(before, read_features(source / "geojson" / f"{entry.stem}.geojson"))
            if not keeps_metadata(name):
                continue  # QuPath 0.5 saves nothing without the slide, which is not copied
            store.apply(entry, Edit(NONE, detections(range(3)), store.fingerprint(entry)))
            require_same(store.read(entry), [*before, *detections(range(3))])


# ---- which store ---------------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 20, 3), 200, np.uint8))
    return create_project(tmp_path / "p", [NewImage(tmp_path / "a.png", 0.25, {"labelled": "whole"})])


def test_the_store_is_as_asked_for_or_the_best_there_is(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in ("native", "sidecar"):
        factory, reason = choose_store(empty, choice)
        assert factory().name == choice
        assert reason.startswith(f"{choice} (asked for)")
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path / "nothing"))
    factory, reason = choose_store(empty, None)
    assert factory().name == "native"
    assert "paquo get_qupath" in reason
    with pytest.raises(QuPathMissingError, match="paquo get_qupath"):
        choose_store(empty, "paquo")


@pytest.mark.qupath
def test_qupath_is_taken_where_it_is_found(empty: Project) -> None:
    qupath = find_qupath()
    factory, reason = choose_store(empty, None)
    assert factory().name == "paquo"
    assert str(qupath) in reason


def test_ground_truth_from_a_folder_goes_before_that_of_the_store(empty: Project, tmp_path: Path) -> None:
    store, (entry,) = NativeStore(empty), empty.images
    store.create(entry, annotations())
    folder = tmp_path / "truth"
    with pytest.raises(StoreError, match="no folder"):
        people_objects(store, entry, folder)
    folder.mkdir()
    # Said to be labelled as a whole, and no file: not an image without mitoses.
    with pytest.raises(StoreError, match=r"has no a\.geojson"):
        people_objects(store, entry, folder)
    assert people_objects(store, replace(entry, metadata={}), folder) == []
    write_features(folder / "a.geojson.gz", annotations()[:2], compress=True)
    assert len(people_objects(store, entry, folder)) == 2
    assert len(people_objects(store, entry, None)) == 5


def test_the_sidecar_reads_another_folder_and_takes_ours_as_a_person_left_it(
    empty: Project, tmp_path: Path
) -> None:
    (entry,) = empty.images
    with pytest.raises(StoreError, match="no folder"):
        SidecarStore(empty, tmp_path / "none")
    store = SidecarStore(empty, tmp_path)
    store.apply(entry, Edit(NONE, detections(range(2)), store.fingerprint(entry)))
    changed = detection(0, name="seen")
    write_features(tmp_path / "a.geojson", [changed])
    require_same(store.read(entry), [changed, detection(1)])
