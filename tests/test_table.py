"""Detections as tables that pandas, a spreadsheet and R open as they are."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from inference_standin import Command, painted, painted_project, standin_bundle

from midog_qupath.errors import EvaluationError
from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.progress import SILENT
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import PathClass
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.table import COLUMNS, write_run_table


@pytest.fixture
def project(tmp_path):
    images = {
        'Müller, "A".png': painted(300, 200, [(60, 60), (220, 140)]),
        "empty.png": painted(300, 200, []),
    }
    metadata = {name: {"domain": "Zürich", "case": name[0], "region_type": "hotspot"} for name in images}
    return painted_project(tmp_path / "p", images, {}, metadata)


def annotate(project):
    model = project.ours / "models" / "now" / "model.safetensors"
    options = AnnotateOptions()
    report = annotate_project(project, lambda: NativeStore(project), standin_bundle(), model, options, SILENT)
    return report.run.run


def frame(project, run):
    return pd.read_csv(project.ours / "detections" / run / "detections.csv")


def test_annotate_writes_both_files_and_they_hold_the_same(project):
    run = annotate(project)
    table = frame(project, run)
    assert list(table.columns) == list(COLUMNS)
    assert set(table["image"]) == {'Müller, "A".png'}
    assert (table["domain"] == "Zürich").all()
    assert (table["region_type"] == "hotspot").all()
    assert len(table) == 2
    assert table["id"].is_unique
    assert table["reviewed"].dtype == bool
    assert not table["reviewed"].any()
    assert (table["state"] == "written").all()
    assert table["x_um"].to_numpy() == pytest.approx(table["x_px"].to_numpy() * 0.25, abs=1e-3)
    near = table.sort_values("x_px")[["x_px", "y_px"]].to_numpy()
    assert near == pytest.approx(np.array([[60, 60], [220, 140]]), abs=4)
    assert table["mitosis_probability"].between(0.5, 1).all()
    assert table["atypical_probability"].between(0, 1).all()
    parquet = pd.read_parquet(project.ours / "detections" / run / "detections.parquet")
    as_text = table.astype({"entry_id": str})
    pd.testing.assert_frame_equal(parquet, as_text, check_dtype=False)


def test_a_spreadsheet_needs_no_repair(project):
    run = annotate(project)
    path = project.ours / "detections" / run / "detections.csv"
    # A byte order mark would become part of the first column's name in R.
    assert path.read_bytes()[:1] in (b"i", b'"')
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert {len(row) for row in rows} == {len(COLUMNS)}
    # R 4.2 takes true and false for words.
    assert {row[rows[0].index("reviewed")] for row in rows[1:]} == {"FALSE"}
    numbers = [place for place, kind in enumerate(COLUMNS.values()) if kind == "double"]
    for row in rows[1:]:
        assert all(re.fullmatch(r"\d+(\.\d+)?(e-\d+)?", row[place]) for place in numbers)


def test_what_people_did_is_in_the_table_again(project):
    run = annotate(project)
    store, entry = NativeStore(project), project.images[0]
    objects = store.read(entry)
    first, second = sorted(objects, key=lambda thing: thing.roi.geometry.bounds)
    other = PathClass("Non-mitosis")
    store.apply(entry, Edit(frozenset({first.id, second.id}), (), store.fingerprint(entry)))
    store.apply(entry, Edit(frozenset(), (replace(first, path_class=other),), store.fingerprint(entry)))
    write_run_table(project, run, store)
    table = frame(project, run).set_index("id")
    assert table.loc[str(first.id), ["reviewed", "state", "class_now"]].tolist() == [
        True, "written", "Non-mitosis",
    ]  # fmt: skip
    assert table.loc[str(first.id), "class"].startswith("Mitosis")
    assert table.loc[str(second.id), ["reviewed", "state"]].tolist() == [True, "deleted"]
    assert pd.isna(table.loc[str(second.id), "class_now"])


def test_a_later_run_replaces_and_nobody_reviewed(project):
    first = annotate(project)
    annotate(project)
    assert len(load_manifests(project)) == 2
    write_run_table(project, first, NativeStore(project))
    table = frame(project, first)
    assert (table["state"] == "replaced").all()
    assert not table["reviewed"].any()


def test_a_run_without_detections_has_columns(tmp_path):
    project = painted_project(tmp_path / "p", {"a.png": painted(300, 200, [])})
    table = frame(project, annotate(project))
    assert len(table) == 0
    assert list(table.columns) == list(COLUMNS)


def test_an_unknown_run_names_the_known_ones(project, monkeypatch, capsys):
    run = annotate(project)
    with pytest.raises(EvaluationError, match=run):
        write_run_table(project, "nowhere")
    command = Command(monkeypatch, capsys)
    code, out, _ = command("table", project.path, run, "--store", "native")
    assert (code, out.strip()) == (0, str(project.ours / "detections" / run))
    code, out, err = command("table", project.path, "nowhere", "--store", "native")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("Error: ")
    assert json.loads((project.ours / "runs" / f"{run}.json").read_text())["run"] == run
