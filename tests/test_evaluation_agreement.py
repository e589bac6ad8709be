"""Two annotators, and a model beside them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from dataset_project import label, square
from inference_standin import Command, painted, painted_project, standin_bundle
from shapely.geometry import box

from midog_qupath.errors import EvaluationError
from midog_qupath.evaluation.agreement import AgreementOptions, agreement
from midog_qupath.evaluation.kappa import kappa, kappa_statistic
from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.progress import SILENT
from midog_qupath.project.geojson import write_features
from midog_qupath.project.stores.native import NativeStore


@pytest.fixture
def rng():
    """Random numbers whose seed is shown when a test fails."""
    seed = int(np.random.default_rng().integers(2**32))
    sys.stdout.write(f"seed {seed}\n")
    return np.random.default_rng(seed)


def slow_kappa(pairs):
    """From the definition, over a list of (one said, other said)."""
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    chance = sum(
        (sum(a == k for a, _ in pairs) / n) * (sum(b == k for _, b in pairs) / n)
        for k in {x for pair in pairs for x in pair}
    )
    return (observed - chance) / (1 - chance)


def test_kappa_is_its_definition(rng):
    for _ in range(30):
        pairs = [tuple(rng.integers(0, 2, 2)) for _ in range(rng.integers(3, 40))]
        table = np.zeros((2, 2), dtype=int)
        for a, b in pairs:
            table[a, b] += 1
        if len({a for a, _ in pairs} | {b for _, b in pairs}) == 2:
            assert kappa(table) == pytest.approx(slow_kappa(pairs))


def test_kappa_of_a_textbook():
    # Two readers of 50 proposals: 20 both yes, 15 both no, 5 and 10 apart.
    assert kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert kappa(np.array([[5, 0], [0, 5]])) == 1.0
    # One class only: chance alone agrees fully.
    assert kappa(np.array([[5, 0], [0, 0]])) is None
    assert kappa(np.zeros((2, 2))) is None


def test_kappa_of_drawn_cases_is_that_of_their_tables(rng):
    tables = [rng.integers(0, 9, (2, 2)) for _ in range(4)]
    weights = rng.integers(0, 3, (20, 4)).astype(float)
    found = kappa_statistic(tables)(weights)
    for row, value in zip(weights, found, strict=True):
        expected = kappa(np.tensordot(row, np.array(tables), 1))
        assert np.isnan(value) if expected is None else value == pytest.approx(expected)


@pytest.fixture
def project(tmp_path):
    """Anna and Bela in two of three images.

    a.png: both mark two figures, one of them of another type; Anna a third, Bela a look-alike where she has a
    figure. b.png: both agree on one. c.png: only Anna.
    """
    images = {name: painted(400, 400, [(60, 60)]) for name in ("a.png", "b.png", "c.png")}
    labels = {
        "a.png": [
            label("Anna: Mitosis: Normal", square(60, 60), 1),
            label("Anna: Mitosis: Atypical", square(200, 60), 2),
            label("Anna: Mitosis", square(60, 200), 3),
            label("Anna: Mitosis", square(200, 200), 4),
            label("Bela: Mitosis: Normal", square(65, 60), 5),
            label("Bela: Mitosis: Normal", square(200, 65), 6),
            label("Bela: Non-mitosis", square(200, 203), 7),
            label("Annabel: Mitosis", square(350, 350), 8),
        ],
        "b.png": [
            label("Anna: Mitosis: Atypical", square(60, 60), 1),
            label("Bela: Mitosis: Atypical", square(60, 60), 2),
            label("Bela: Non-mitosis", square(300, 300), 3),
            label("Anna: Non-mitosis", square(300, 303), 4),
        ],
        "c.png": [label("Anna: Mitosis", square(60, 60), 1)],
    }
    return painted_project(tmp_path / "p", images, labels, {"a.png": {"domain": "D"}})


def compared(project, first, second, **options):
    with NativeStore(project) as store:
        return agreement(project, store, first, second, AgreementOptions(**options), SILENT).as_json()


def test_two_people_by_their_classes(project):
    data = compared(project, "Anna", "Bela")
    assert (data["images"], data["left_out_images"], data["cases"]) == (2, 1, 2)
    assert (data["mitoses_a"], data["mitoses_b"]) == (5, 3)
    counts = data["b_against_a"]
    assert (counts["tp"], counts["fp"], counts["fn"]) == (3, 0, 2)
    assert counts["f1"] == pytest.approx(6 / 8)
    assert compared(project, "Bela", "Anna")["b_against_a"]["f1"] == pytest.approx(6 / 8)
    assert data["kappa_mitosis"]["table"] == [[1, 0], [1, 3]]
    assert data["kappa_mitosis"]["kappa"] == pytest.approx(
        slow_kappa([(0, 0), (1, 0), (1, 1), (1, 1), (1, 1)])
    )
    assert data["kappa_type"]["table"] == [[1, 0], [1, 1]]
    assert data["per_domain"]["D"]["tp"] == 2


def test_a_model_stands_beside_a_person(project):
    model = project.ours / "models" / "now" / "model.safetensors"
    factory = lambda: NativeStore(project)  # noqa: E731
    run = annotate_project(project, factory, standin_bundle(), model, AnnotateOptions(), SILENT).run.run
    data = compared(project, "Anna", run)
    assert (data["images"], data["left_out_images"]) == (3, 0)
    counts = data["b_against_a"]
    assert (counts["tp"], counts["fp"], counts["fn"]) == (3, 0, 3)


def test_folders_of_geojson_and_empty_files_that_were_looked_at(project, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        for stem in ("a", "b"):
            write_features(folder / f"{stem}.geojson", [label("Mitosis", square(100, 100), 1)])
    write_features(one / "c.geojson", [])
    write_features(other / "c.geojson", [label("Mitosis", square(100, 100), 1)])
    data = compared(project, str(one), str(other))
    counts = data["b_against_a"]
    assert (data["images"], counts["tp"], counts["fp"], counts["fn"]) == (3, 2, 1, 0)


def test_a_file_with_an_object_twice_is_refused(project, tmp_path):
    for name, twice in (("one", 2), ("other", 1)):
        features = tmp_path / name / "a.geojson"
        write_features(features, [label("Mitosis", square(100, 100), 1)])
        data = json.loads(features.read_bytes())
        features.write_text(json.dumps({**data, "features": data["features"] * twice}))
    with pytest.raises(EvaluationError, match="more than once"):
        compared(project, str(tmp_path / "one"), str(tmp_path / "other"))


def test_exhaustively_labelled_ground_is_what_is_compared(tmp_path):
    labels = {
        "a.png": [
            label("Region*", box(0, 0, 150, 150), 1),
            label("Anna: Mitosis", square(60, 60), 2),
            label("Bela: Mitosis", square(60, 60), 3),
            label("Bela: Mitosis", square(300, 300), 4),
        ]
    }
    project = painted_project(tmp_path / "q", {"a.png": painted(400, 400, [])}, labels)
    counts = compared(project, "Anna", "Bela")["b_against_a"]
    assert (counts["tp"], counts["fp"], counts["fn"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("Anna", "Anna", "both Anna"),
        ("Anna", "Cleo", "Cleo is no folder"),
        ("nowhere/x", "Bela", "no folder nowhere/x"),
    ],
)
def test_unknown_annotators_are_named(project, first, second, says):
    with pytest.raises(EvaluationError, match=says):
        compared(project, first, second)


def test_the_command(project, monkeypatch, capsys):
    command = Command(monkeypatch, capsys)
    words = ("agreement", project.path, "--store", "native", "--a", "Anna", "--b", "Bela")
    code, out, _ = command(*words, "--json")
    assert (code, json.loads(out)["b_against_a"]["tp"]) == (0, 3)
    code, out, _ = command(*words)
    assert code == 0
    assert "Bela against Anna: 2 images of 2 cases, 5 mitoses of a, 3 of b" in out
    code, out, err = command("agreement", project.path, "--store", "native", "--a", "Anna", "--b", "Bela",
                             "--image", "c*")  # fmt: skip
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("Error: ")
