"""What `project.qpproj` says is read as QuPath reads it, and whatever is wrong with it is said in words."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midog_qupath.errors import ProjectError, SlideError
from midog_qupath.project.addresses import find_image, path_text
from midog_qupath.project.model import ImageEntry
from midog_qupath.project.qpproj import open_project, require_plain

MICRONS = {"value": 0.25, "unit": "µm"}
SERVER = {
    "builderType": "uri",
    "providerClassName": "qupath.lib.images.servers.openslide.OpenslideServerBuilder",
    "uri": "file:/C:/Users/A%20B/slides/case%201.svs",
    "args": ["--no-crop"],
    "metadata": {
        "name": "case 1.svs",
        "width": 3000,
        "height": 2000,
        "pixelCalibration": {"pixelWidth": MICRONS, "pixelHeight": {"value": 0.27, "unit": "µm"}},
    },
}
IMAGE = {"serverBuilder": SERVER, "entryID": 7, "imageName": "case 1.svs", "metadata": {"case": "1"}}
OLD = "file:/C:/work/p/project.qpproj"
PROJECT: dict[str, Any] = {
    "version": "0.6.0",
    "uri": OLD,
    "images": [IMAGE],
}


def written(folder: Path, project: object) -> Path:
    folder.mkdir(exist_ok=True)
    text = project if isinstance(project, str) else json.dumps(project)
    (folder / "project.qpproj").write_text(text, encoding="utf-8")
    return folder


def image(folder: Path, changes: dict[str, Any] | None = None, **server: Any) -> ImageEntry:
    """The only image of a project in which an entry, or its server, has other values."""
    changed = {**IMAGE, "serverBuilder": {**SERVER, **server}, **(changes or {})}
    return open_project(written(folder, {**PROJECT, "images": [changed]})).images[0]


def named(folder: Path, *names: str) -> list[str]:
    images = [{**IMAGE, "entryID": number, "imageName": name} for number, name in enumerate(names, 1)]
    return [one.stem for one in open_project(written(folder, {"images": images})).images]


def test_an_entry_is_read_whole(tmp_path: Path) -> None:
    project = open_project(written(tmp_path, PROJECT))
    (entry,) = project.images
    assert (project.version, project.folder, project.path.name) == ("0.6.0", tmp_path, "project.qpproj")
    assert (entry.entry_id, entry.name, entry.stem) == ("7", "case 1.svs", "case 1")
    assert (entry.width, entry.height, entry.metadata) == (3000, 2000, {"case": "1"})
    assert entry.mpp == pytest.approx(0.26)
    assert entry.builder.args == ("--no-crop",)
    assert entry.data_dir == tmp_path / "data" / "7"
    assert (entry.path, entry.stale, entry.address) == (None, False, SERVER["uri"])


def test_the_file_or_its_folder_or_a_project_of_another_name(tmp_path: Path) -> None:
    folder = written(tmp_path, PROJECT)
    assert open_project(folder / "project.qpproj") == open_project(folder)
    (folder / "project.qpproj").rename(folder / "mine.qpproj")
    assert open_project(folder).path == folder / "mine.qpproj"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not complete JSON"),
        (json.dumps(PROJECT)[:-40], "not complete JSON"),
        ("[" * 100_000, "not complete JSON"),
        ("[]", "not a QuPath project"),
        ('{"type": "FeatureCollection", "features": []}', "not a QuPath project"),
        ({"images": {"a": 1}}, "not a QuPath project"),
        ({"images": [IMAGE, IMAGE]}, "entry id 7 twice"),
        ({"images": [{"imageName": "a"}]}, "no entry id"),
    ],
)
def test_what_is_no_project_is_said_in_words(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        open_project(written(tmp_path, content))


def test_no_such_project(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "project.qpproj"):
        with pytest.raises(ProjectError, match="no QuPath project"):
            open_project(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "project.qpproj").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ProjectError, match="is no QuPath project"):
        open_project(tmp_path)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:/C:/Users/A%20B/a.svs", "C:/Users/A B/a.svs"),
        ("file:///C:/a.svs", "C:/a.svs"),
        ("C:\\slides\\a.svs", "C:/slides/a.svs"),
        ("file:/data/%C3%A4%23%25.tif", "/data/ä#%.tif"),
        ("file:///data/a.tif", "/data/a.tif"),
        ("file://localhost/data/a.tif", "/data/a.tif"),
        ("file://server/share/a.tif", "//server/share/a.tif"),
        ("file:////server/share/a%20b.tif", "//server/share/a b.tif"),
        ("images/a.tif", "images/a.tif"),
        ("https://omero.example/a", None),
        ("file://[", None),
        ("", None),
    ],
)
def test_addresses_of_every_system_name_their_path(uri: str, path: str | None) -> None:
    assert path_text(uri) == path


@pytest.mark.parametrize(
    ("uri", "old", "lies"),
    [
        ("file:/C:/work/p/images/a.tif", OLD, "new/p/images/a.tif"),
        ("file:/C:/work/slides/a.tif", OLD, "new/slides/a.tif"),
        ("file://server/share/p/images/a.tif", "file://server/share/p/project.qpproj", "new/p/images/a.tif"),
        ("file:////server/share/p/images/a.tif", "file:////server/share/p/p.qpproj", "new/p/images/a.tif"),
        ("file:/elsewhere/x/images/a.tif", OLD, "new/p/images/a.tif"),
        ("file:/elsewhere/x/a.tif", None, "new/p/a.tif"),
        ("file:/D:/a%20b/a.tif", OLD, "new/p/a b/a.tif"),
    ],
)
def test_an_image_that_moved_with_its_project_is_found(tmp_path: Path, uri: str, old: str, lies: str) -> None:
    file = tmp_path / lies
    file.parent.mkdir(parents=True)
    file.write_bytes(b"pixels")
    (tmp_path / "new" / "p").mkdir(exist_ok=True)
    assert find_image(uri, old, tmp_path / "new" / "p") == (file, True)


def test_an_address_that_holds_is_taken_even_where_a_copy_lies_beside_the_project(tmp_path: Path) -> None:
    for file in (tmp_path / "real" / "a b.tif", tmp_path / "p" / "a b.tif"):
        file.parent.mkdir()
        file.write_bytes(b"pixels")
    uri = (tmp_path / "real" / "a b.tif").as_uri()
    assert find_image(uri, None, tmp_path / "p") == (tmp_path / "real" / "a b.tif", False)
    assert find_image("a b.tif", None, tmp_path / "p") == (tmp_path / "p" / "a b.tif", False)
    assert find_image("file:/nowhere/else.tif", None, tmp_path / "p") == (None, False)
    assert find_image(f"file:/{'x' * 5000}.tif", None, tmp_path / "p") == (None, False)


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="root sees all")
def test_a_folder_of_somebody_else_does_not_stop_the_project(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    assert find_image((closed / "a.tif").as_uri(), None, tmp_path) == (None, False)


def test_calibration_is_in_microns_or_unknown(tmp_path: Path) -> None:
    def with_size(value: object, unit: str) -> float | None:
        size = {"value": value, "unit": unit}
        metadata = {"pixelCalibration": {"pixelWidth": size, "pixelHeight": size}}
        return image(tmp_path, metadata=metadata).mpp

    assert with_size(0.5, "µm") == with_size(0.5, "um") == 0.5
    for value, unit in ((1.0, "px"), (0.5, "mm"), (0, "µm"), (-1, "µm"), (float("nan"), "µm"), ("1", "µm")):
        assert with_size(value, unit) is None
    assert image(tmp_path, metadata={}).mpp is None


@pytest.mark.parametrize("kind", ["rotated", "cropped", "flip", "affine", "sparse", "something new"])
def test_images_that_qupath_shows_changed_are_refused(tmp_path: Path, kind: str) -> None:
    rotated = {"builderType": kind, "builder": SERVER}
    around = {"builderType": "pyramidize", "builder": rotated}
    for server in (rotated, around):
        entry = image(tmp_path, {"serverBuilder": server})
        assert (entry.builder.type, entry.builder.uri) == (kind, SERVER["uri"])
        with pytest.raises(SlideError, match=kind):
            require_plain(entry)


def test_plain_images_and_pyramids_made_on_the_fly_are_taken(tmp_path: Path) -> None:
    require_plain(image(tmp_path))
    entry = image(tmp_path, {"serverBuilder": {"builderType": "pyramidize", "builder": SERVER}})
    require_plain(entry)
    assert (entry.builder.uri, entry.width) == (SERVER["uri"], 3000)


def test_file_names_are_safe_and_tell_images_apart(tmp_path: Path) -> None:
    assert named(tmp_path, "a.svs", "b.ome.tif", "c", ".png") == ["a", "b.ome", "c", ".png".strip(".")]
    assert named(tmp_path, "1/2: x?.svs", "nul.tif", "ends. .tif", "   ") == [
        "1_2_ x_",
        "nul_",
        "ends",
        "image",
    ]
    assert named(tmp_path, "2.5x region", "a.czi - Scene #1") == ["2.5x region", "a.czi - Scene #1"]
    # Case-blind, and again where a longer name is that of a third image.
    assert named(tmp_path, "a.svs", "A.tif", "b.tif") == ["a-1", "A-2", "b"]
    assert named(tmp_path, "a.svs", "a.tif", "a-2.svs") == ["a-1", "a-2-2", "a-2-3"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["a", "A", "a-1", "a-2", "a-1-1", "b.svs", "?", "con"]), max_size=8))
def test_no_two_images_ever_share_a_file_name(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    stems = named(tmp_path_factory.mktemp("p"), *names)
    assert len({stem.lower() for stem in stems}) == len(names)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from places(below, (*path, key))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([p for p in places(PROJECT) if p]), JSON)
def test_a_project_with_anything_anywhere_is_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    changed: Any = copy.deepcopy(PROJECT)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    folder = written(tmp_path_factory.getbasetemp() / "fuzz", changed)
    with contextlib.suppress(ProjectError):
        open_project(folder)


def test_classes_of_the_project(tmp_path: Path) -> None:
    folder = written(tmp_path, PROJECT)
    assert open_project(folder).classes == ()
    classes = folder / "classifiers" / "classes.json"
    classes.parent.mkdir()
    classes.write_text(
        '{"pathClasses":[{"name":"Mitosis: Atypical","color":-5635841},{"name":"B"}]}', "utf-8"
    )
    first, second = open_project(folder).classes
    assert (first.name, first.color, second.color) == ("Mitosis: Atypical", -5635841, None)
    classes.write_text("{", "utf-8")
    assert open_project(folder).classes == ()


def test_a_large_project_opens_at_once(tmp_path: Path) -> None:
    import time

    images = [{**IMAGE, "entryID": number, "imageName": f"{number % 400}.svs"} for number in range(434)]
    folder = written(tmp_path, {**PROJECT, "images": images})
    start = time.perf_counter()
    assert len(open_project(folder).images) == 434
    # Quadratic code took minutes; a busy machine may take a few seconds.
    assert time.perf_counter() - start < 5


@pytest.mark.realdata
def test_the_real_projects(data_dir: Path) -> None:
    breast = open_project(data_dir / "breast-mitosis")
    assert len(breast.images) == 70
    assert all(one.stale and one.path and one.mpp == 0.25 for one in breast.images)
    assert {one.metadata["labelled"] for one in breast.images} == {"whole", "regions", "objects"}
    assert "Region*" in {one.name for one in breast.classes}
    (missing,) = open_project(data_dir / "qupath-projects" / "coscia-0.6.0").images
    assert (missing.path, missing.stale, missing.stem) == (None, False, "TD_01_verysmall_mIF.ome")
    assert len(open_project(data_dir / "qupath-projects" / "stardist-0.2.0-m12").images) == 2
