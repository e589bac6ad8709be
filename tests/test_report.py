"""The report: what is in it is what the run and the ground truth say, and nothing in it can run or load."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from inference_standin import Command, painted, painted_project
from report_project import FOUND, HOSTILE, project_with_run

from midog_qupath.project.model import Project
from midog_qupath.project.ours import REVIEWED_MEASUREMENT, RUN_MEASUREMENT
from midog_qupath.project.stores.native import NativeStore


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Project, str]:
    return project_with_run(tmp_path_factory.mktemp("report") / "p")


class Reader(HTMLParser):
    """What a browser would load, and the data of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self._json = False
        self.data: dict = {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        at = dict(attrs)
        self.tags.append(tag)
        self._json = tag == "script" and at.get("type") == "application/json"
        if tag == "img":
            self.pictures.append(at)
        self.loads += [at[name] for name in ("src", "srcset", "data", "poster") if at.get(name)]
        if tag == "link":
            self.loads.append(at.get("href") or "")

    def handle_data(self, text):
        if self._json:
            self.data = json.loads(text)
            self._json = False


def page(path: Path) -> tuple[str, Reader]:
    html = path.read_text(encoding="utf-8")
    return html, Reader(html)


def test_a_run_is_reported_with_its_errors(command, made, tmp_path):
    project, run = made
    out = tmp_path / "r.html"
    code, printed, _ = command("report", project.path, "--store", "native", "-o", out, "--json")
    assert code == 0
    result = json.loads(printed)
    assert (result["detections"], result["measured"]) == (5, True)
    _, read = page(out)
    galleries = read.data["galleries"]
    names = read.data["images"]
    spots = {key: [(names[s[0]], s[1], s[2]) for s in rows] for key, rows in galleries.items()}
    assert spots["false-positives"] == [("a.png", 350, 350)]
    assert sorted(spots["misses"]) == [("a.png", 60, 300), ("a.png", 300, 60)]
    assert [(s[3], s[1]) for s in galleries["confusions"]] == [("Normal, called atypical", 60)]
    assert sum(len(rows) for key, rows in spots.items() if key.startswith("class-")) == 5
    html = out.read_text(encoding="utf-8")
    assert run in html
    # Each of its two curves says why it ends where it does.
    assert html.count("The run kept no detection below") == 2


def test_its_figures_are_those_of_evaluate(command, made, tmp_path):
    project, run = made
    evaluated = json.loads(
        command("evaluate", project.path, "--store", "native", "--detections", run, "--json")[1]
    )["detection"]["pooled"]
    out = tmp_path / "r.html"
    assert command("report", project.ours / "detections" / run, "--store", "native", "-o", out)[0] == 0
    html, read = page(out)
    table = read.data["tables"]["images"]
    heads = [column["head"] for column in table["columns"]]
    row = next(row for row in table["rows"] if row[0] == "a.png")
    assert {k: row[heads.index(k.upper())] for k in ("tp", "fp", "fn")} == {
        k: evaluated[k] for k in ("tp", "fp", "fn")
    }
    assert row[heads.index("detections")] == len(FOUND["a.png"])
    assert f"<dt>F1</dt><dd>{evaluated['f1']:.3f}" in html
    # The case that the model has seen is shown and not measured.
    assert next(row for row in table["rows"] if row[0] == "c.png")[heads.index("TP")] is None
    assert "1 case that the model has seen" in html


def test_nothing_is_loaded_and_no_name_becomes_html(command, made, tmp_path):
    project, _ = made
    out = tmp_path / "r.html"
    assert command("report", project.path, "--store", "native", "-o", out)[0] == 0
    html, read = page(out)
    assert all(address.startswith("data:") for address in read.loads)
    assert "default-src 'none'" in html
    assert HOSTILE in read.data["images"]
    assert HOSTILE not in html
    assert "i" not in read.tags
    assert all((picture.get("alt") or "").strip() for picture in read.pictures)


def test_pictures_beyond_the_cap_are_left_out_and_it_is_said(command, made, tmp_path):
    project, _ = made
    out = tmp_path / "r.html"
    code, printed, _ = command(
        "report", project.path, "--store", "native", "-o", out, "--crops", "1", "--json"
    )
    assert code == 0
    result = json.loads(printed)
    html, read = page(out)
    assert result["pictures"] == sum(len(rows) for rows in read.data["galleries"].values())
    assert all(len(rows) <= 1 for rows in read.data["galleries"].values())
    assert result["left_out"] > 0
    said = sum(int(number) for number in re.findall(r"(\d+) (?:is|are) left out", html))
    assert said == result["left_out"]
    assert len(read.data["tables"]["detections"]["rows"]) == 5


def test_a_model_is_run_on_what_it_has_not_seen(command, made, tmp_path):
    project, _ = made
    out, model = tmp_path / "m.html", project.ours / "models" / "20250101-000000"
    (model / "log.csv").write_text("phase,step,name,value\nstudent,10,total,2\nstudent,20,total,1\n")
    code, printed, _ = command("report", model, "--store", "native", "--device", "cpu", "-o", out, "--json")
    assert code == 0
    assert json.loads(printed)["measured"]
    html, read = page(out)
    figures = json.loads(command("evaluate", project.path, "--store", "native", "--json")[1])
    assert f"<dt>F1</dt><dd>{figures['detection']['pooled']['f1']:.3f}" in html
    assert f"<dt>Average precision</dt><dd>{figures['curves']['average_precision']:.3f}" in html
    alts = " ".join(picture["alt"] or "" for picture in read.pictures)
    assert "total over the steps of the training: student from 2 to 1" in alts
    assert "kept no detection below" not in html
    assert {"precision-recall", "froc", "domains"} <= set(re.findall(r'id="chart-([a-z-]+)"', html))


def test_a_model_outside_of_a_project_is_reported_without_figures(command, made, tmp_path):
    project, _ = made
    alone = tmp_path / "alone"
    shutil.copytree(project.ours / "models" / "20250101-000000", alone)
    (alone / "evaluation-p.json").write_bytes(
        json.dumps(
            {
                "detection": {
                    "pooled": {"tp": 1, "fp": 2, "fn": 3, "precision": 0.3, "recall": 0.25, "f1": 0.2857},
                    "per_domain": {},
                }
            }
        ).encode()
    )
    code, printed, _ = command("report", alone, "--json")
    assert code == 0
    result = json.loads(printed)
    assert (result["measured"], result["detections"]) == (False, 0)
    assert "lies in no project" in " ".join(result["notes"])
    read = page(alone / "report.html")[1]
    assert read.data["tables"]["saved-0"]["rows"] == [["pooled", 1, 2, 3, 0.3, 0.25, 0.2857]]


def test_an_image_that_is_gone_costs_its_pictures_only(command, tmp_path):
    project, run = project_with_run(tmp_path / "p")
    (project.folder / "images" / "b.png").unlink()
    code, printed, _ = command("report", project.path, "--store", "native", "--json")
    assert code == 0
    result = json.loads(printed)
    assert result["path"] == str(project.ours / "detections" / run / "report.html")
    assert result["detections"] == 5
    assert any("No pictures" in note and HOSTILE in note for note in result["notes"])


def test_what_a_person_reviewed_is_counted(command, tmp_path):
    project, _ = project_with_run(tmp_path / "p")
    entry = next(image for image in project.images if image.name == "a.png")
    store = NativeStore(project)
    things = store.read(entry)
    ours = next(thing for thing in things if RUN_MEASUREMENT in thing.measurements)
    seen = replace(ours, measurements={**ours.measurements, REVIEWED_MEASUREMENT: 1.0})
    shutil.rmtree(entry.data_dir)
    store.create(entry, [seen if thing.id == ours.id else thing for thing in things])
    out = tmp_path / "r.html"
    assert command("report", project.path, "--store", "native", "-o", out)[0] == 0
    assert "<dt>Reviewed</dt><dd>1</dd>" in page(out)[0]


def test_the_count_is_that_of_the_command_with_its_last_settings(command, tmp_path):
    project, _ = project_with_run(tmp_path / "p")
    counted = json.loads(command("count", project.path, "--store", "native", "--area", "0.003", "--json")[1])[
        "images"
    ]
    out = tmp_path / "r.html"
    assert command("report", project.path, "--store", "native", "-o", out)[0] == 0
    html, read = page(out)
    table = read.data["tables"]["hotspots"]
    heads = [column["head"] for column in table["columns"]]
    rows = {row[0]: dict(zip(heads, row, strict=True)) for row in table["rows"]}
    for image in counted:
        shown = rows[image["image"]]
        assert (shown["count"], shown["x (px)"], shown["y (px)"]) == (
            image["count"],
            image["x_px"],
            image["y_px"],
        )
    with_place = [image for image in counted if image["x_px"] is not None]
    assert with_place
    alts = [picture["alt"] for picture in read.pictures if "with its hotspot" in (picture["alt"] or "")]
    assert len(alts) == len(with_place)
    assert "The richest circle of 0.003 mm²" in html


@pytest.mark.parametrize(
    ("target", "says"),
    [("nowhere", "There is nothing at"), ("midog-qupath/detections/gone", "no record of the run gone")],
)
def test_bad_targets_are_one_line_with_a_remedy(command, made, target, says):
    project, _ = made
    (project.ours / "detections" / "gone").mkdir(exist_ok=True)
    code, out, err = command("report", project.folder / target)
    assert (code, out) == (1, "")
    assert says in err.splitlines()[-1]


def test_a_project_without_run_and_model_says_what_to_do(command, tmp_path):
    project = painted_project(tmp_path / "p", {"a.png": painted(100, 100, [])})
    code, _, err = command("report", project.path)
    assert code == 1
    assert "midog-qupath annotate" in err.splitlines()[-1]
