"""``evaluate``: what counts, where, and for which cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from dataset_project import label, square
from inference_standin import disc, painted, painted_project, standin_bundle
from shapely.geometry import Point, box

from midog_qupath import files
from midog_qupath.errors import EvaluationError
from midog_qupath.evaluation import project as evaluation
from midog_qupath.evaluation.evaluate import evaluate
from midog_qupath.evaluation.predictors import (
    ATYPICAL,
    NORMAL,
    UNKNOWN,
    ModelPredictor,
    Prediction,
    RunPredictor,
    Scores,
)
from midog_qupath.evaluation.project import EvaluateOptions, evaluate_model, evaluate_run, find_run
from midog_qupath.evaluation.truth import collect_truth
from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.progress import SILENT
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.geojson import write_features
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore


def field(figures, **options):
    return painted(300, 200, figures, **options)


@pytest.fixture
def project(tmp_path):
    """Three fields and a mosaic of four cells.

    whole.png: 2 figures found, 1 of them labelled, 1 label where nothing is -> TP 1, FP 1, FN 1.
    region.png: a hit inside the region; a figure and a label outside it that do not count -> TP 1.
    objects.png: a figure without a label, and a typed label -> counts for the type only.
    mosaic.png: four typed figures of two slides; the model takes one normal for atypical.
    """
    mosaic = painted(256, 256, [])
    for x, y, green in [(64, 64, 250), (192, 64, 0), (64, 192, 0), (192, 192, 0)]:
        disc(mosaic, x, y, green=green)
    images = {
        "whole.png": field([(60, 60), (220, 140)]),
        "region.png": field([(60, 60), (220, 140)]),
        "objects.png": field([(60, 60), (220, 140)], green=250),
        "mosaic.png": mosaic,
    }
    labels = {
        "whole.png": [label("Mitosis", square(62, 58), 1), label("Mitosis", Point(150, 20), 2),
                      label("Non-mitosis", square(220, 140), 3)],
        "region.png": [label("Region*", box(10, 10, 110, 110), 1), label("Mitosis", square(60, 60), 2),
                       label("Mitosis", square(280, 20), 3)],
        "objects.png": [label("Mitosis: Normal", square(60, 60), 1)],
        "mosaic.png": [label("Mitosis: Normal", square(64, 64), 1, name="s1/1"),
                       label("Mitosis: Atypical", square(192, 64), 2, name="s1/2"),
                       label("Mitosis: Normal", square(64, 192), 3, name="s2/3"),
                       label("Mitosis: Atypical", square(192, 192), 4, name="s2/4")],
    }  # fmt: skip
    metadata = {
        "whole.png": {"labelled": "whole", "case": "w", "domain": "A"},
        "region.png": {"case": "r", "domain": "B"},
        "objects.png": {"case": "o", "domain": "B"},
        "mosaic.png": {"labelled": "objects", "cell_px": "128", "domain": "C"},
    }
    return painted_project(tmp_path / "p", images, labels, metadata)


def measured(project, bundle=None, seen=(), entries=None):
    truth = collect_truth(
        project, entries or project.images, NativeStore(project), ClassMap(), None, frozenset(seen)
    )
    predictor = ModelPredictor.used_to(bundle or standin_bundle(), truth.images, 0.5, None, SILENT)
    result = evaluate(truth, predictor, source="it", threshold=0.5, in_sample=False, progress=SILENT)
    return result.as_json()


def counts(row):
    return row["tp"], row["fp"], row["fn"]


def test_detection_counts_inside_the_labelled_extent_only(project):
    detection = measured(project)["detection"]
    assert counts(detection["pooled"]) == (2, 1, 1)
    assert counts(detection["per_domain"]["A"]) == (1, 1, 1)
    assert counts(detection["per_domain"]["B"]) == (1, 0, 0)
    assert detection["images"] == 2
    assert detection["mm2"] == pytest.approx((300 * 200 + 100 * 100) * 0.25**2 / 1e6)


def test_types_are_measured_wherever_they_are_known(project):
    types = measured(project)["atypical"]
    assert (types["n_normal"], types["n_atypical"]) == (3, 2)
    assert types["sensitivity"] == 1.0
    assert types["specificity"] == pytest.approx(2 / 3)
    assert types["balanced_accuracy"] == pytest.approx(5 / 6)


def test_figures_over_all_thresholds_come_from_the_same_ground(project):
    curves = measured(project)["curves"]
    # Two of three mitoses are found, one impostor is as probable as they are; the types are told apart
    # but for one normal figure that looks like the atypical ones.
    assert 0.3 < curves["average_precision"] < 0.67
    assert 0 < curves["froc_auc"] < 8 * 2 / 3
    assert curves["atypical_roc_auc"] == pytest.approx((2 * 2 + 2 * 0.5) / 6, abs=0.2)
    # The threshold makes no difference to them.
    assert measured(project, standin_bundle(threshold=0.9))["curves"] == curves


def test_cases_the_model_has_seen_are_left_out(project):
    data = measured(project, seen=("w", "s2"))
    assert counts(data["detection"]["pooled"]) == (1, 0, 0)
    assert data["atypical"]["balanced_accuracy"] == 1.0
    assert data["left_out_cases"] == ["s2", "w"]


def test_no_ground_truth_is_an_error_and_not_zero(project, tmp_path):
    bare = painted_project(tmp_path / "bare", {"a.png": field([])})
    with pytest.raises(EvaluationError, match="no ground truth"):
        measured(bare)
    with pytest.raises(EvaluationError, match="every labelled case"):
        measured(project, seen=("w", "r", "o", "s1", "s2"))


def test_nothing_to_find_has_no_f1(tmp_path):
    labels = {"empty.png": [], "typed.png": [label("Mitosis: Normal", square(60, 60), 1)]}
    project = painted_project(
        tmp_path / "p",
        {"empty.png": field([(60, 60)]), "typed.png": field([(60, 60)])},
        labels,
        {"empty.png": {"labelled": "whole"}},
    )
    pooled = measured(project)["detection"]["pooled"]
    assert (pooled["fp"], pooled["recall"], pooled["f1"]) == (1, None, None)


def test_an_image_that_cannot_be_read_is_left_out_and_named(project):
    path = project.folder / "images" / "whole.png"
    path.write_bytes(b"no image")
    data = measured(project)
    assert list(data["skipped_images"]) == ["whole.png"]
    assert counts(data["detection"]["pooled"]) == (1, 0, 0)


@pytest.fixture
def run(project, monkeypatch):
    """A run of the stand-in, whose model file exists and has seen case w."""
    model = project.ours / "models" / "now" / "model.safetensors"
    files.write_bytes(model, b"weights")
    bundle = standin_bundle(trained_cases=("w",))
    bundle = type(bundle)(bundle.card, bundle.network, files.sha256(model))
    monkeypatch.setattr(evaluation, "read_card", lambda path: bundle.card)
    monkeypatch.setattr(evaluation, "load_bundle", lambda path, device: bundle)
    report = annotate_project(project, lambda: NativeStore(project), bundle, model, AnnotateOptions(), SILENT)
    return report.run.run


def measured_run(project, run, **options):
    with NativeStore(project) as store:
        return evaluate_run(project, store, run, EvaluateOptions(**options), SILENT).as_json()


def test_a_run_and_its_model_measure_the_same(project, run):
    of_run = measured_run(project, run)
    model = project.ours / "models" / "now" / "model.safetensors"
    with NativeStore(project) as store:
        of_model = evaluate_model(project, store, model, "cpu", EvaluateOptions(), SILENT).as_json()
    assert of_run["left_out_cases"] == of_model["left_out_cases"] == ["w"]
    assert of_run["detection"] == of_model["detection"]
    for name in ("n_normal", "n_atypical", "balanced_accuracy", "sensitivity", "specificity"):
        assert of_run["atypical"][name] == of_model["atypical"][name]
    # A run holds the probabilities of what it found, not of every figure.
    assert of_run["atypical"]["roc_auc"] is None
    assert of_model["atypical"]["roc_auc"] == of_model["curves"]["atypical_roc_auc"]
    assert (model.parent / f"evaluation-{project.folder.name}.json").is_file()
    assert (project.ours / "detections" / run / f"evaluation-{project.folder.name}.json").is_file()


def test_all_cases_are_marked_in_sample(project, run):
    data = measured_run(project, run, all_cases=True)
    assert data["in_sample"]
    assert counts(data["detection"]["pooled"]) == (2, 1, 1)


def test_a_folder_of_detections_is_measured_too(project, run, tmp_path):
    folder = tmp_path / "elsewhere"
    (project.ours / "detections" / run).rename(folder)
    assert counts(measured_run(project, str(folder))["detection"]["pooled"]) == (2, 1, 1)
    (folder / "whole.geojson").unlink()
    data = measured_run(project, str(folder))
    assert counts(data["detection"]["pooled"]) == (1, 0, 0)
    assert data["skipped_images"] == {}
    with pytest.raises(EvaluationError, match="None of the labelled images is in"):
        measured_run(project, str(folder), images=("whole.png",))


def test_a_stricter_threshold_leaves_detections_of_a_run_out(project, run):
    data = measured_run(project, run, all_cases=True, threshold=1.0)
    assert counts(data["detection"]["pooled"]) == (0, 0, 3)
    assert data["detection"]["threshold"] == 1.0


def test_an_unknown_run_or_a_lost_model_is_an_error(project, run):
    with pytest.raises(EvaluationError, match="no run and no folder nowhere"):
        find_run(project, "nowhere")
    (project.ours / "models" / "now" / "model.safetensors").unlink()
    with pytest.raises(EvaluationError, match="is gone"):
        measured_run(project, run)
    assert measured_run(project, run, all_cases=True)["in_sample"]


def cell_centres(image):
    """The centre of every cell of a mosaic, (N, 2) slide pixels; nothing elsewhere."""
    if image.cell_px is None:
        return np.empty((0, 2))
    columns, rows = (
        np.arange(side // int(image.cell_px)) for side in (image.entry.width, image.entry.height)
    )
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    return (grid + 0.5) * image.cell_px


@dataclass(frozen=True)
class CellCentres:
    """Calls the centre of every cell a mitosis of one type, with certainty; or says nothing at all."""

    called: int | None

    def predict(self, image):
        points = np.empty((0, 2)) if self.called is None else cell_centres(image)
        called = np.full(len(image.typed), UNKNOWN if self.called is None else self.called)
        atypical = np.full(len(image.typed), 0.5)
        return Prediction(0.25, points, called, Scores(points, np.ones(len(points)), 0.02, atypical))


@pytest.mark.realdata
def test_answering_the_centre_of_every_cell_gains_nothing(real_project, tmp_path):
    project = open_project(real_project)
    truth = collect_truth(project, project.images, NativeStore(project), ClassMap(), None, frozenset())
    options = {"source": "it", "threshold": 0.5, "in_sample": False, "progress": SILENT}
    silent = evaluate(truth, CellCentres(None), **options).as_json()
    for called in (NORMAL, ATYPICAL):
        centres = evaluate(truth, CellCentres(called), **options).as_json()
        assert sum(len(cell_centres(image)) for image in truth.images) >= 2989
        assert centres["detection"] == silent["detection"]
        assert counts(centres["detection"]["pooled"]) == (0, 0, 162)
        assert centres["curves"] == silent["curves"]
        assert centres["curves"]["average_precision"] == 0
        # Chance, whichever type it says.
        assert centres["atypical"]["balanced_accuracy"] == centres["curves"]["atypical_roc_auc"] == 0.5
    # The same as files of detections, which are read whole.
    for image in truth.images:
        boxes = [label("Mitosis: Normal", square(x, y), n) for n, (x, y) in enumerate(cell_centres(image))]
        write_features(tmp_path / "run" / f"{image.entry.stem}.geojson", boxes)
    files_of = evaluate(truth, RunPredictor(tmp_path / "run", ClassMap()), **options).as_json()
    assert files_of["detection"] == silent["detection"]
    assert files_of["atypical"]["balanced_accuracy"] == 0.5


@pytest.mark.realdata
def test_the_real_project_holds_the_ground_truth_it_says(real_project):
    project = open_project(real_project)
    truth = collect_truth(project, project.images, NativeStore(project), ClassMap(), None, frozenset())
    measured_fields = [image for image in truth.images if image.area is not None]
    assert len(measured_fields) == 56
    assert sum(len(image.mitoses) for image in measured_fields) == 162
    typed = [image for image in truth.images if len(image.typed)]
    assert sum(len(image.typed) for image in typed) == 2989
    assert sum(int(image.is_atypical.sum()) for image in typed) == 694
    assert all(image.cell_px == 128 for image in typed)
    geojson = real_project.parent / "geojson"
    exported = collect_truth(
        project, project.images, NativeStore(project), ClassMap(), geojson, frozenset({"Case_11"})
    )
    assert exported.left_out == ("Case_11",)
    assert sum(len(image.typed) for image in exported.images) == 2989
