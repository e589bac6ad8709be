"""Tables override the project, and a table that does not fit is refused with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dataset_rows import OBJECT

from midog_qupath.dataset.format import ObjectRow
from midog_qupath.dataset.overrides import ImageLine, ObjectLine, override_objects, read_overrides
from midog_qupath.errors import DatasetError
from midog_qupath.units import WORKING_MPP

KNOWN = ["a.png", "b.png"]


def relabel(row: ObjectRow, label: str) -> ObjectRow:
    return replace(row, label=label)


@pytest.mark.parametrize("mark", [",", ";"])
def test_tables_are_read_with_comma_or_semicolon(tmp_path: Path, mark: str) -> None:
    images, objects = tmp_path / "i.csv", tmp_path / "o.csv"
    images.write_text("\ufeffimage,domain,extent\nb.png,scanner,whole\n".replace(",", mark), encoding="utf-8")
    objects.write_text("image,x,y,votes_atypical\na.png,1.5,2,3\n".replace(",", mark), encoding="utf-8")
    tables = read_overrides(images, objects, KNOWN)
    assert tables.images == {"b.png": ImageLine(image="b.png", domain="scanner", extent="whole")}
    assert tables.objects["a.png"] == (ObjectLine(image="a.png", x=1.5, y=2.0, votes_atypical=3),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,colour\na.png,red\n", "unknown column 'colour'"),
        ("case\nx\n", "no column 'image'"),
        ("", "no column 'image'"),
        ("image,case\nc.png,x\n", "line 2: the project has no image 'c.png'"),
        ("image,extent\na.png,some\n", "line 2, extent"),
        ("image,cell_px\na.png,wide\n", "line 2, cell_px"),
        ("image,case\na.png,x,y\n", "line 2, more cells"),
        ("image,case\na.png,x\na.png,y\n", "a.png twice"),
    ],
)
def test_a_wrong_image_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_overrides(path, None, KNOWN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x\na.png,1\n", "source_id, or x and y"),
        ("image,source_id,votes_atypical,votes_total\na.png,1,3,2\n", "larger than votes_total"),
        ("image,source_id,votes_total\na.png,1,-1\n", "votes_total"),
    ],
)
def test_a_wrong_object_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        read_overrides(None, path, KNOWN)


def test_a_missing_or_binary_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_overrides(tmp_path / "none.csv", None, KNOWN)
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_overrides(tmp_path / "table.csv", None, KNOWN)


def test_objects_are_found_by_id_or_as_the_nearest_within_the_matching_radius() -> None:
    rows = [replace(OBJECT, x=0.0, source_id="a"), replace(OBJECT, x=40.0, source_id="b")]
    lines = [
        ObjectLine(image="a.png", x=25, y=2, label="Mitosis: Atypical", votes_atypical=2, votes_total=3),
        ObjectLine(image="a.png", source_id="a", case="other"),
    ]
    first, second = override_objects(rows, lines, WORKING_MPP, relabel)
    assert first == replace(rows[0], case="other")
    assert second == replace(rows[1], label="Mitosis: Atypical", votes_atypical=2, votes_total=3)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"x": 31, "y": 2}], "no object"),
        ([{"source_id": "z"}], "no object"),
        ([{"source_id": "a"}, {"x": 1, "y": 2}], "an object twice"),
    ],
)
def test_lines_that_fit_no_object_or_one_twice_are_refused(
    lines: list[dict[str, object]], message: str
) -> None:
    rows = [replace(OBJECT, x=0.0, source_id="a")]
    table = [ObjectLine.model_validate({"image": "a.png", **line}) for line in lines]
    with pytest.raises(DatasetError, match=message):
        override_objects(rows, table, WORKING_MPP, relabel)
