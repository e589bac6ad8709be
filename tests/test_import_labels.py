"""Labels from elsewhere come into a project once, where they belong, and nothing of a person's changes."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from dataset_project import HEIGHT, LABELS, WIDTH, a_project, label, square
from shapely.geometry import LineString, Point, box
from store_objects import files, require_same

from midog_qupath.cli.main import cli
from midog_qupath.errors import LabelsError, MidogError, SafetyError
from midog_qupath.progress import SILENT
from midog_qupath.project.backup import all_backups
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.geojson import write_features
from midog_qupath.project.geometry import ellipse
from midog_qupath.project.labels.coco import read_coco
from midog_qupath.project.labels.given import Words
from midog_qupath.project.labels.match import entry_names, without_ending
from midog_qupath.project.labels.points import read_points
from midog_qupath.project.labels.tables import read_image_table
from midog_qupath.project.labels.write import LabelSource, import_into_project
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.restore import restore
from midog_qupath.project.shapes import centre
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore

#: In MIDOG's own form: corners, and an image that nobody labelled.
COCO: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "001.tiff", "width": WIDTH, "height": HEIGHT},
        {"id": 2, "file_name": "002.tiff", "width": WIDTH, "height": HEIGHT},
        {"id": 3, "file_name": "003.tiff", "width": WIDTH, "height": HEIGHT},
        {"id": 9, "file_name": "009.tiff", "width": WIDTH, "height": HEIGHT},
    ],
    "categories": [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "not mitotic figure"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [200, 20, 250, 70]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [10, 130, 60, 180]},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [-20, 100, 30, 150]},
        {"id": 4, "image_id": 9, "category_id": 2, "bbox": [10, 130, 60, 180]},
    ],
}
TABLE = """Slide;Dataset;Tumor;Scanner;Origin;Species
1;train;human breast cancer;Hamammatsu XR;UMC Utrecht;Human
2;test;canine lymphoma;3D Histech;VMU Vienna;Canine
3;test;canine lymphoma;3D Histech;VMU Vienna;Canine
"""
NAMES = ("001.png", "slides 002.png", "003.png", "004.png")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Four images; the first has annotations already, the last no data file."""
    made = a_project(tmp_path / "p", {NAMES[0]: LABELS, NAMES[1]: [], NAMES[2]: [], NAMES[3]: []})
    raw = json.loads(made.path.read_text(encoding="utf-8"))
    raw["images"][1]["imageName"] = "elsewhere/002.png"
    made.path.write_text(json.dumps(raw), encoding="utf-8")
    for name in ("data.qpdata", "summary.json"):
        (made.images[3].data_dir / name).unlink()
    return open_project(made.path)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    return written(tmp_path / "midog.json", COCO)


def written(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def run(project: Project, *arguments: object, store: str = "native") -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command."""
    asked = ["import-labels", project.path, *arguments, "--store", store, "--json"]
    result = CliRunner().invoke(cli, [str(one) for one in asked], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value or 0, json.loads(result.stdout)


def everything(project: Project) -> list[list[PathObject]]:
    return [list(NativeStore(project).read(entry)) for entry in open_project(project.path).images]


@pytest.mark.parametrize("store", ["native", pytest.param("paquo", marks=pytest.mark.qupath)])
def test_midog_s_labels_come_into_the_project_once(project: Project, coco: Path, store: str) -> None:
    before = everything(project)
    options = (coco, "--image-table", coco.with_name("table.csv"))
    code, said = run(project, *options, store=store)
    assert (code, said["added"]) == (0, 3)
    assert [row["classes"] for row in said["images"][:2]] == [
        {"Mitosis": 1, "Non-mitosis": 1},
        {"Non-mitosis": 1},
    ]
    assert (said["not_in_project"], said["not_in_file"]) == (["009.tiff"], ["004.png"])
    after = everything(project)
    require_same(after[0][: len(before[0])], before[0])
    first, second = after[0][len(before[0]) :]
    assert (first.class_name, first.kind) == ("Mitosis", ObjectKind.ANNOTATION)
    assert first.roi.kind is RoiKind.RECTANGLE
    assert (first.roi.geometry.bounds, second.roi.geometry.bounds) == ((200, 20, 250, 70), (10, 130, 60, 180))
    assert first.metadata == {"midog_qupath.imported": "midog.json"}
    assert [len(objects) for objects in after] == [len(before[0]) + 2, 1, 0, 0]
    known = [entry.metadata for entry in open_project(project.path).images]
    # The third image stands in the table and has no label: what is in it is unknown, not nothing.
    assert known == [
        {"domain": "human breast cancer, Hamamatsu XR", "case": "1", "labelled": "whole"},
        {"domain": "canine lymphoma, 3D Histech", "case": "2", "labelled": "whole"},
        {"domain": "canine lymphoma, 3D Histech", "case": "3"},
        {},
    ]
    assert (Path(said["backup"]) / "data" / "1" / "data.qpdata").is_file()
    now = files(project.folder)
    code, again = run(project, *options, store=store)
    assert (code, again["added"], again["backup"]) == (0, 0, None)
    assert [row["already_there"] for row in again["images"]] == [2, 1, 0]
    assert files(project.folder) == now


def test_a_label_that_a_person_deleted_comes_back_only_when_asked_for(project: Project, coco: Path) -> None:
    run(project, coco)
    first, second = project.images[:2]
    backup = imported_and_deleted(project, first, "Mitosis")
    code, again = run(project, coco)
    assert (code, again["added"]) == (0, 0)
    assert [row["deleted_since"] for row in again["images"]] == [1, 0]
    # Elsewhere nothing was deleted: there it comes in.
    assert run(project, coco, "--dry-run", store="sidecar")[1]["added"] == 3
    said = CliRunner().invoke(cli, ["import-labels", str(project.path), str(coco), "--store", "native"])
    assert "1 label of earlier imports, deleted since, left out: --bring-back" in said.output

    assert run(project, coco, "--bring-back")[1]["added"] == 1
    imported_and_deleted(project, first, "Mitosis")
    assert run(project, coco)[1]["added"] == 0
    # As it was before the first import, nobody has deleted anything.
    restore(project, backup, ["id:1"], SILENT)
    assert run(project, coco)[1]["added"] == 2
    assert len(NativeStore(project).read(second)) == 1


def imported_and_deleted(project: Project, entry: ImageEntry, class_name: str) -> str:
    """A person deletes an imported label in QuPath; the time of the first backup."""
    store = NativeStore(project)
    things = store.read(entry)
    gone = [one for one in things if one.class_name == class_name and "midog_qupath.imported" in one.metadata]
    assert len(gone) == 1
    for name in ("data.qpdata", "summary.json"):
        (entry.data_dir / name).unlink()
    store.create(entry, [one for one in things if one not in gone])
    return all_backups(project)[0].time


def test_a_damaged_record_of_imports_is_refused(project: Project, coco: Path) -> None:
    run(project, coco)
    (record,) = (project.ours / "imports").iterdir()
    record.write_text("{}", encoding="utf-8")
    with pytest.raises(SafetyError, match="labels were imported"):
        run(project, coco)


def test_labels_beside_the_project_leave_it_alone_and_are_trained_on(project: Project, coco: Path) -> None:
    before = {name: data for name, data in files(project.folder).items() if "midog-qupath" not in str(name)}
    truth = project.ours / "ground-truth"
    truth.mkdir(parents=True)
    # As other tools write it: no ids, a bare list, packed.
    mine = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [9.5, 9]}, "properties": {"a": 1}}
    (truth / "001.geojson.gz").write_bytes(gzip.compress(json.dumps([mine]).encode()))
    options = (coco, "--image-table", coco.with_name("table.csv"))
    for added in (3, 0):
        code, said = run(project, *options, store="sidecar")
        assert (code, said["added"]) == (0, added)
    raw = json.loads(gzip.decompress((truth / "001.geojson.gz").read_bytes()))
    assert raw[0] == mine
    assert len(raw) == 3
    after = {name: data for name, data in files(project.folder).items() if "midog-qupath" not in str(name)}
    assert after == before
    with Path(said["image_table"]).open(encoding="utf-8") as table:
        rows = {row["image"]: row["extent"] for row in csv.DictReader(table)}
    assert rows == {"001.png": "whole", "elsewhere/002.png": "whole", "003.png": ""}
    options = ("--store", "sidecar", "--image-table", said["image_table"], "--json")
    asked = ["export", str(project.path), *options, "-o", str(coco.with_name("dataset"))]
    result = CliRunner().invoke(cli, asked, standalone_mode=False)
    assert result.exception is None
    exported = json.loads(result.stdout)
    assert {row["name"]: row["extent"] for row in exported["images"]} == {
        "001.png": "whole",
        "elsewhere/002.png": "whole",
    }
    assert exported["classes"] == {"Mitosis": 1, "Non-mitosis": 2}


@pytest.mark.parametrize("store", ["native", "sidecar"])
def test_a_dry_run_says_the_same_and_changes_nothing(project: Project, coco: Path, store: str) -> None:
    before = files(project.folder)
    _, planned = run(project, coco, "--whole", "--dry-run", store=store)
    assert files(project.folder) == before
    _, done = run(project, coco, "--whole", store=store)
    for key in ("images", "added", "not_in_project", "not_in_file", "unlabelled_in_file"):
        assert planned[key] == done[key]
    assert planned["unlabelled_in_file"] == ["003.png"]


def test_without_a_table_and_without_being_told_no_image_is_labelled_as_a_whole(
    project: Project, coco: Path
) -> None:
    run(project, coco)
    assert all(not entry.metadata for entry in open_project(project.path).images)
    code, said = run(project, coco, "--whole")
    assert (code, said["added"]) == (0, 0)
    assert [entry.metadata for entry in open_project(project.path).images] == [
        {"labelled": "whole"},
        {"labelled": "whole"},
        {},
        {},
    ]


def test_what_the_project_says_of_an_image_stays(project: Project, coco: Path, tmp_path: Path) -> None:
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    raw["images"][0]["metadata"] = {"domain": "mine", "labelled": "objects", "x": "y"}
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    table = written(tmp_path / "own.csv", "image,domain,extent\n001,theirs,whole\n004.png,lab 4,whole\n")
    code, said = run(project, coco, "--image-table", table)
    assert code == 0
    assert said["images"][0]["metadata_kept"] == {"domain": "mine", "labelled": "objects"}
    after = json.loads(project.path.read_text(encoding="utf-8"))
    # A table of the user's own may say that nothing is in an image.
    assert after["images"][3].pop("metadata") == {"domain": "lab 4", "labelled": "whole"}
    raw["images"][3].pop("metadata")
    assert after == raw


def test_an_image_that_cannot_be_read_is_named_and_the_others_get_their_labels(
    project: Project, coco: Path
) -> None:
    data = project.images[0].data_dir / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-60])
    damaged = data.read_bytes()
    code, said = run(project, coco, "--image-table", coco.with_name("table.csv"))
    assert code == 1
    assert "001.png" in said["images"][0]["error"]
    assert [row["added"] for row in said["images"]] == [0, 1, 0]
    assert data.read_bytes() == damaged
    first, second, *_ = open_project(project.path).images
    assert "labelled" not in first.metadata
    assert second.metadata["labelled"] == "whole"


def test_labels_of_another_image_or_of_one_shown_changed_are_refused(project: Project, coco: Path) -> None:
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    server = raw["images"][1]["serverBuilder"]
    raw["images"][1]["serverBuilder"] = {"builderType": "rotated", "builder": server}
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    changed = {**COCO, "images": [{**COCO["images"][0], "width": WIDTH + 1}, *COCO["images"][1:]]}
    before = files(project.folder)
    code, said = run(project, written(coco, changed))
    assert (code, said["added"]) == (1, 0)
    assert f"{WIDTH + 1} x {HEIGHT}" in said["images"][0]["error"]
    assert "rotated" in said["images"][1]["error"]
    assert {name: data for name, data in files(project.folder).items() if name in before} == before


class _Careless(NativeStore):
    """A store that loses one of the new labels, as a bug or another program could."""

    def apply(self, entry: ImageEntry, edit: Edit) -> str:
        return super().apply(entry, replace(edit, labels=edit.labels[1:]))


def test_what_went_wrong_is_noticed_and_put_back(project: Project, coco: Path) -> None:
    before = {path: path.read_bytes() for path in (project.folder / "data").rglob("*") if path.is_file()}
    source = LabelSource(read_coco(coco, COCO, Words(ClassMap())), whole=True)
    report = import_into_project(project, lambda: _Careless(project), source, SILENT)
    assert set(report.errors) == {"1", "2"}
    assert "put back" in report.errors["1"]
    after = {path: path.read_bytes() for path in (project.folder / "data").rglob("*") if path.is_file()}
    assert after == before
    assert not any("labelled" in entry.metadata for entry in open_project(project.path).images)


class _Impatient(NativeStore):
    """A store whose user presses Ctrl-C at the second image."""

    calls = 0

    def apply(self, entry: ImageEntry, edit: Edit) -> None:
        _Impatient.calls += 1
        if _Impatient.calls == 2:
            raise KeyboardInterrupt
        super().apply(entry, edit)


def test_cancelled_in_the_middle_nothing_is_lost_and_the_next_run_completes(
    project: Project, coco: Path
) -> None:
    before = everything(project)
    source = LabelSource(read_coco(coco, COCO, Words(ClassMap())), whole=True)
    with pytest.raises(KeyboardInterrupt):
        import_into_project(project, lambda: _Impatient(project), source, SILENT)
    assert not (project.ours / "lock").exists()
    after = everything(project)
    require_same(after[0][: len(before[0])], before[0])
    assert [len(objects) for objects in after] == [len(before[0]) + 2, 0, 0, 0]
    assert not any(entry.metadata for entry in open_project(project.path).images)
    code, said = run(project, coco, "--whole")
    assert (code, said["added"]) == (0, 1)
    assert [entry.metadata for entry in open_project(project.path).images][:2] == [{"labelled": "whole"}] * 2


def test_points_of_a_csv(project: Project, tmp_path: Path) -> None:
    rows = ("003;10.5;20;AMF;a", "003;10.5;20;AMF;b", "003;90;30.25;hard negative;a", "004;9000;5;MF;a")
    path = written(tmp_path / "a.csv", "\n".join(["file;x;y;class;who", *rows]))
    code, said = run(project, path)
    assert code == 0
    rows = {row["name"]: (row["classes"], row["outside"]) for row in said["images"]}
    assert rows == {"003.png": ({"Mitosis: Atypical": 1, "Non-mitosis": 1}, 0), "004.png": ({}, 1)}
    (point, _) = everything(project)[2]
    assert (point.roi.kind, point.roi.geometry.bounds) == (RoiKind.POINTS, (10.5, 20, 10.5, 20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'image'"),
        ("image,x,y,label\n", "no points"),
        ("image,x,y\na,1,2\n", "no column 'label'"),
        ("image,x,y,label\na,1,nan,mitosis\n", "line 2: y is 'nan'"),
        ("image;x;y;label\na;1,5;2;mitosis\n", "x is '1,5'"),
        ("image,x,y,label\na,1,2,mitosis,more\n", "more cells"),
        ("image,x,y,label\n,1,2,mitosis\n", "image is empty"),
        ("image,x,y,label\na,10,20,NMF\nb,1,2,NMF\n", r"unknown meaning: 'NMF' \(2\)"),
        ("image,x,y,label\na,0.31,0.22,mitosis\na,0.5,1.2,mitosis\n", "not millimetres"),
    ],
)
def test_tables_that_say_nothing_clear_are_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        read_points(written(tmp_path / "a.csv", text), Words(ClassMap()))


def test_words_mean_classes_of_the_project() -> None:
    words = Words(
        ClassMap.parse(["mitosis=Mitotic figure"]), ["NMF=normal", "debris=ignore", "1=non_mitosis"]
    )
    said = {word: words.class_of(word) for word in ("MF", "nmf", "Mitotic figure: Metaphase", "debris", "1")}
    assert said == {
        "MF": "Mitotic figure",
        "nmf": "Mitotic figure: Normal",
        "Mitotic figure: Metaphase": "Mitotic figure: Metaphase",
        "debris": "ignore",
        "1": "Non-mitosis",
    }
    assert words.class_of("stroma") is None
    for wrong in ("NMF", "=normal", "NMF=nothing"):
        with pytest.raises(LabelsError, match="does not say"):
            Words(ClassMap(), [wrong])


@pytest.mark.realdata
def test_real_labels_from_tables_stand_where_qupath_has_them(real_project: Path, data_dir: Path) -> None:
    """The cells of two mosaics as points of a CSV, against the annotations that QuPath made of them."""
    names = ("atlas_aperio-cs2_00.jpg", "atlas_leica-scn400_02.jpg")
    with (data_dir / "breast-mitosis" / "labels" / "atlases.csv").open(encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if Path(row["file"]).name in names]
    places = [(row["file"], int(row["column"]) * 128 + 64, int(row["row"]) * 128 + 64) for row in rows]
    lines = [f"{file},{x},{y},{row['label']}" for (file, x, y), row in zip(places, rows, strict=True)]
    project = open_project(real_project)
    entries = [entry for entry in project.images if entry.name in names]
    drawn = {entry.name: NativeStore(project).read(entry) for entry in entries}
    for entry in entries:
        for name in ("data.qpdata", "summary.json"):
            (entry.data_dir / name).unlink()
    path = written(real_project.with_name("cells.csv"), "\n".join(["image,x,y,label", *lines]))
    code, said = run(project, path)
    assert (code, said["added"]) == (0, len(rows))
    for entry in entries:
        theirs = {(thing.class_name, *map(round, centre(thing))) for thing in drawn[entry.name]}
        ours = {(thing.class_name, *map(round, centre(thing))) for thing in NativeStore(project).read(entry)}
        assert ours == theirs


@pytest.mark.long
@pytest.mark.realdata
def test_what_qupath_exported_from_a_project_stands_in_it_already(real_project: Path, data_dir: Path) -> None:
    project = open_project(real_project)
    code, said = run(project, data_dir / "breast-mitosis" / "geojson", "--dry-run")
    assert (code, said["added"], len(said["images"])) == (0, 0, 63)
    assert sum(row["already_there"] for row in said["images"]) == 3200


def test_geojson_of_other_tools_becomes_annotations(project: Project, tmp_path: Path) -> None:
    round_ = label("Mitosis: Normal", ellipse(20, 20, 60, 50), 11)
    round_ = replace(round_, roi=Roi(RoiKind.ELLIPSE, Point(40, 35).buffer(1).envelope.buffer(20)))
    other = replace(label("imposter", square(100, 100), 12), kind=ObjectKind.DETECTION)
    ours = replace(other, id=uuid4(), measurements={"midog run": 3.0})
    kept = label("Stroma", square(200, 100), 14)
    lines = replace(label(None, square(1, 1), 15), roi=Roi(RoiKind.LINE, LineString([(0, 0), (50, 9)])))
    write_features(tmp_path / "003.geojson", [round_, other, ours, kept, lines])
    code, said = run(project, tmp_path / "003.geojson")
    assert (code, said["added"]) == (0, 3)
    assert said["left_out"] == {"detection of midog-qupath": 1, "line, or without a shape": 1}
    found = everything(project)[2]
    assert [thing.class_name for thing in found] == ["Mitosis: Normal", "Non-mitosis", "Stroma"]
    assert {thing.kind for thing in found} == {ObjectKind.ANNOTATION}
    assert found[0].roi.kind is RoiKind.ELLIPSE
    assert run(project, tmp_path / "003.geojson")[1]["added"] == 0
    assert run(project, tmp_path / "003.geojson", "--image", "004")[1]["images"][0]["name"] == "004.png"
    assert len(everything(project)[3]) == 3


def test_names_are_found_with_and_without_folder_ending_and_zeros(tmp_path: Path) -> None:
    names = ("a.png", "A.png", "b.png", "b.jpg", "007.png", "x.y z.png", "sub.ome.png")
    entries = a_project(tmp_path / "p", dict.fromkeys(names, ())).images
    known = entry_names(entries)

    def found(name: str) -> list[str]:
        return [entry.name for entry in known.find(name)]

    assert found("a.png") == ["a.png"]
    assert found("A") == ["a.png", "A.png"]
    assert found("b.jpg") == ["b.jpg"]
    assert found("C:\\data\\b.jpg") == found("/data/b.jpg") == ["b.jpg"]
    assert found("b.svs") == ["b.png", "b.jpg"]
    assert found("7") == found("007.tiff") == found("007") == ["007.png"]
    assert found("x.y z") == ["x.y z.png"]
    assert (found("x"), found("x.q"), found(""), found("0")) == ([], [], [], [])
    assert found("sub") == found("SUB.tif") == ["sub.ome.png"]
    assert [without_ending(name) for name in ("a.ome.tif", "2.5x", ".png", "a.b.svs")] == [
        "a",
        "2.5x",
        ".png",
        "a.b",
    ]


def test_a_name_that_fits_several_images_is_left_out_and_said(project: Project, tmp_path: Path) -> None:
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    raw["images"][1]["imageName"] = "001.jpg"
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    path = written(tmp_path / "a.csv", "image,x,y,label\n001,10,20,MF\n003,10,20,MF\n")
    code, said = run(project, path)
    assert (code, said["added"]) == (1, 1)
    assert said["ambiguous"] == {"001": ["001.png (entry 1)", "001.jpg (entry 2)"]}
    with pytest.raises(MidogError, match="No image"):
        run(project, written(tmp_path / "b.csv", "image,x,y,label\nzz,10,20,MF\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,mpp\na,1\n", "has the columns"),
        ("image,extent\na,all\n", "extent is 'all'"),
        ("image,cell_px\na,1.5\n", "cell_px"),
        ("image,domain\na,x\na,y\n", "twice"),
        ("image,domain\n", "no images"),
    ],
)
def test_image_tables_with_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        read_image_table(written(tmp_path / "t.csv", text))


def test_many_labels_of_one_image_are_each_imported_once(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": []})
    lines = [f"a,{number % 50 * 5 + 10},{number // 50 * 5 + 10},mitosis" for number in range(300)]
    path = written(tmp_path / "a.csv", "\n".join(["image,x,y,label", *lines, *lines]))
    assert run(project, path)[1]["added"] == 300
    assert run(project, path)[1]["added"] == 0
    assert len(everything(project)[0]) == 300


def test_a_box_is_the_same_as_its_rectangle_drawn_as_a_polygon(project: Project, coco: Path) -> None:
    drawn = PathObject(
        uuid4(), ObjectKind.ANNOTATION, Roi(RoiKind.POLYGON, box(200, 20, 250, 70)), PathClass("Mitosis")
    )
    store, entry = NativeStore(project), project.images[0]
    store.apply(entry, Edit(frozenset(), (), store.fingerprint(entry), labels=(drawn,)))
    assert run(project, coco)[1]["images"][0]["already_there"] == 1
