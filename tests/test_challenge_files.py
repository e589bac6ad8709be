"""The MIDOG challenge's files: written, read, and measured as the challenge measures."""

from __future__ import annotations

import json

import pytest
import tifffile
from dataset_project import label, square
from inference_standin import Command, painted, painted_project, save_untrained

from midog_qupath.challenge import (
    CropClass,
    FieldTruth,
    FigurePoint,
    StackTruth,
    read_classes,
    read_figures,
    read_truth,
    write_classes,
    write_figures,
)
from midog_qupath.errors import FormatError
from midog_qupath.evaluation.challenge import evaluate_challenge

POINTS = [FigurePoint(1.25, 0.5, 0.9, True), FigurePoint(0.0, 9.75, 0.25, False)]


def test_detections_survive_a_round_trip_in_the_challenges_words(tmp_path):
    path = tmp_path / "out" / "mitotic-figures.json"
    write_figures(path, POINTS)
    assert read_figures(path) == POINTS
    raw = json.loads(path.read_text())
    assert (raw["type"], raw["name"], raw["version"]) == (
        "Multiple points", "Points of interest", {"major": 1, "minor": 0},
    )  # fmt: skip
    assert raw["points"][0] == {"name": "mitotic figure", "point": [1.25, 0.5, 0], "probability": 0.9}
    assert raw["points"][1]["name"] == "non-mitotic figure"
    write_figures(path, [])
    assert read_figures(path) == []


def test_classes_survive_a_round_trip_as_floats(tmp_path):
    path = tmp_path / "c.json"
    classes = [CropClass(True, 1.0), CropClass(False, 0.0), CropClass(False, 0.25)]
    write_classes(path, classes)
    assert read_classes(path) == classes
    # The challenge refuses a confidence that is no float.
    assert all(isinstance(one["confidence"], float) for one in json.loads(path.read_text()))
    assert [one["class"] for one in json.loads(path.read_text())] == ["atypical", "normal", "normal"]


@pytest.mark.realdata
def test_the_challenges_own_examples_are_read(data_dir):
    folder = data_dir / "midog"
    small = read_figures(folder / "MIDOG21_007_expected_output.json")
    assert [point.above for point in small] == [True, True, False, False]
    # One of them spells its type "Mulitple points".
    for name in ("T1_test_output_expected_output.json", "T1_test_output_interf0_mitotic-figures.json"):
        assert read_figures(folder / name)


POINT = {"name": "mitotic figure", "point": [1.0, 1.0, 0], "probability": 0.5}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no json", "not JSON"),
        ('{"points": [NaN]}', "not JSON"),
        ("[]", "no list of points"),
        ("{}", "no list of points"),
        (json.dumps({"points": [3]}), "point 0: it is no object"),
        (json.dumps({"points": [{**POINT, "point": [700.0, 5.0, 0]}]}), "as pixels would"),
        (json.dumps({"points": [POINT, {**POINT, "point": [-0.1, 5.0, 0]}]}), "point 1"),
        (json.dumps({"points": [{**POINT, "point": [1.0]}]}), r"no \[x, y, 0\]"),
        (json.dumps({"points": [{**POINT, "point": ["1", "2"]}]}), "no number"),
        (json.dumps({"points": [{**POINT, "name": "mitosis"}]}), "'mitosis'"),
        (json.dumps({"points": [{**POINT, "probability": 1.5}]}), "not in 0 to 1"),
        (json.dumps({"points": [{**POINT, "probability": True}]}), "no number"),
        (json.dumps({"points": [{"point": [1, 1, 0]}]}), "name and probability missing"),
    ],
)
def test_malformed_detections_are_refused_by_name(tmp_path, content, says):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=says) as caught:
        read_figures(path)
    assert "bad.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "no list of classes"),
        ('[{"class": "normal"}]', "no class and confidence"),
        ('[{"class": "odd", "confidence": 0.5}]', "neither normal nor atypical"),
        ('[{"class": "normal", "confidence": -1}]', "not in 0 to 1"),
    ],
)
def test_malformed_classes_are_refused_by_name(tmp_path, content, says):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=says):
        read_classes(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "no ground truth"),
        ("{}", "no ground truth"),
        ('{"a.tiff": {}}', "no list of annotations"),
        ('{"a.tiff": {"annotations": [], "roi type": "cold"}}', "roi type is 'cold'"),
        ('{"a.tiff": {"annotations": [[300, 2, 0]], "roi type": "random"}}', "pixels"),
        ('[{"image": "s"}]', "no image and labels"),
        ('[{"image": "s", "labels": ["normal"], "tumordomains": []}]', "another number"),
        ('[{"image": "s", "labels": []}, {"image": "s", "labels": []}]', "s twice"),
    ],
)
def test_malformed_truth_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "truth.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=says):
        read_truth(path)


def test_truth_is_read_in_both_forms(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"a.tiff": {"annotations": [[1, 2, 0]], "tumor domain": 3, "roi type": "random"}}')
    assert read_truth(path) == [FieldTruth("a.tiff", ((1.0, 2.0),), "3", "random")]
    path.write_text('[{"image": "s.tiff", "labels": ["atypical", "normal"], "tumordomains": [1, 2]}]')
    assert read_truth(path) == [StackTruth("s.tiff", (True, False), ("1", "2"))]


# ---- measured as the challenge does --------------------------------------------------------------

#: The challenge's own sample of ground truth and answers (one answer moved inside the 10 mm that it accepts).
TRUTH = {
    "007.tiff": {"annotations": [[0.374850364, 0.756961752, 0]], "tumor domain": 0, "roi type": "hotspot"},
    "140.tiff": {
        "annotations": [
            [0.6732737644102278, 0.6380649407634927, 0],
            [0.701136862260162, 0.5339582751605569, 0],
            [0.004306115122262555, 0.017097810044277795, 0],
        ],
        "tumor domain": 0,
        "roi type": "challenging",
    },
    "201.tiff": {
        "annotations": [
            [0.6596242342527185, 0.6275941892514884, 0],
            [0.6869224531269846, 0.5251959312989827, 0],
            [0.004218815644204747, 0.016817232145484504, 0],
        ],
        "tumor domain": 1,
        "roi type": "random",
    },
}
ANSWERS = {
    "007": [(0.374850364, 0.756961752, 0.92), (9.1, 9.5, 0.92)],
    "140": [
        (0.701136862260162, 0.5339582751605569, 0.85),
        (0.004106115122262555, 0.017197810044277794, 0.52),
    ],
    "201": [(0.03, 0.04, 0.92), (0.2, 0.3, 0.4)],
}
#: What the challenge's container says of them.
OFFICIAL = {
    "precision": 0.49999991666668053, "recall": 0.4285713673469475, "f1": 0.46153850295857674,
    "average_precision": 0.3148514926433563,
}  # fmt: skip
OFFICIAL_DOMAIN_0 = {"precision": 0.7499998125000469, "recall": 0.7499998125000469, "f1": 0.7500000312499961,
                     "average_precision": 0.6287128925323486}  # fmt: skip
OFFICIAL_CHALLENGING = {"precision": 0.99999950000025, "recall": 0.6666664444445185, "f1": 0.800000039999992,
                        "average_precision": 0.6633663177490234}  # fmt: skip


@pytest.fixture
def sample(tmp_path):
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(TRUTH))
    for name, points in ANSWERS.items():
        answers = [FigurePoint(x, y, p, True) for x, y, p in points]
        write_figures(tmp_path / "answers" / name / "mitotic-figures.json", answers)
    return truth, tmp_path / "answers"


def test_figures_equal_the_challenges_own_sample(sample):
    data = evaluate_challenge(*sample).as_json()
    rows = (
        (data["detection"]["pooled"], data["curves"], OFFICIAL),
        (data["detection"]["per_domain"]["0"], data["curves"]["per_domain"]["0"], OFFICIAL_DOMAIN_0),
        (
            data["detection"]["per_region_type"]["challenging"],
            data["curves"]["per_region_type"]["challenging"],
            OFFICIAL_CHALLENGING,
        ),
    )
    for counted, curves, official in rows:
        for name in ("precision", "recall", "f1"):
            assert counted[name] == pytest.approx(official[name], abs=1e-9)
        # torchmetrics counts in 32 bits.
        assert curves["average_precision"] == pytest.approx(official["average_precision"], abs=1e-6)


def test_truth_is_matched_in_the_files_order(tmp_path):
    # One answer between two figures: the first takes it; then the other has none or the second one.
    answers = [FigurePoint(1.0, 1.006, 0.9, True), FigurePoint(1.0, 1.013, 0.9, True)]
    write_figures(tmp_path / "a.json", answers)
    hits = []
    for order in ((1.000, 1.010, 1.018), (1.018, 1.010, 1.000)):
        truth = {"annotations": [[1.0, y, 0] for y in order], "tumor domain": 0, "roi type": "random"}
        (tmp_path / "t.json").write_text(json.dumps({"a.tiff": truth}))
        hits.append(evaluate_challenge(tmp_path / "t.json", tmp_path / "a.json").images[0].counts.tp)
    assert hits == [2, 2]
    truth = {"annotations": [[1.0, 1.010, 0], [1.0, 1.000, 0]], "tumor domain": 0, "roi type": "random"}
    (tmp_path / "t.json").write_text(json.dumps({"a.tiff": truth}))
    # The nearer answer of the first figure is the only one of the second.
    write_figures(
        tmp_path / "a.json", [FigurePoint(1.0, 1.006, 0.9, True), FigurePoint(1.0, 1.016, 0.9, True)]
    )
    assert evaluate_challenge(tmp_path / "t.json", tmp_path / "a.json").images[0].counts.tp == 1


def test_stacks_are_measured_by_tumour_too(tmp_path):
    stacks = [
        {"image": "s1.tiff", "labels": ["normal", "atypical", "atypical"], "tumordomains": [1, 1, 2]},
        {"image": "s2.tiff", "labels": ["normal"], "tumordomains": [2]},
    ]
    (tmp_path / "t.json").write_text(json.dumps(stacks))
    said = [CropClass(False, 0.1), CropClass(True, 0.8), CropClass(False, 0.4)]
    write_classes(tmp_path / "p" / "s1.json", said)
    write_classes(tmp_path / "p" / "s2.json", [CropClass(False, 0.2)])
    data = evaluate_challenge(tmp_path / "t.json", tmp_path / "p").as_json()
    types = data["atypical"]
    assert (types["sensitivity"], types["specificity"], types["balanced_accuracy"]) == (0.5, 1.0, 0.75)
    assert types["roc_auc"] == 1.0
    assert types["per_domain"]["1"]["balanced_accuracy"] == 1.0
    assert types["per_domain"]["2"]["sensitivity"] == 0.0
    assert data["detection"] is None
    write_classes(tmp_path / "p" / "s2.json", [])
    with pytest.raises(FormatError, match="0 classes, s2"):
        evaluate_challenge(tmp_path / "t.json", tmp_path / "p")


# ---- the commands --------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


@pytest.fixture
def project(tmp_path):
    images = {name: painted(300, 200, [(60, 60)]) for name in ("a.png", "b.png")}
    labels = {name: [label("Mitosis", square(60, 60), 1)] for name in images}
    metadata = {name: {"labelled": "whole", "region_type": "hotspot"} for name in images}
    project = painted_project(tmp_path / "p", images, labels, metadata)
    save_untrained(project.ours / "models" / "20250101-000000" / "model.safetensors")
    return project


def test_annotate_writes_what_evaluate_reads(command, project, tmp_path):
    code, out, _ = command(
        "annotate", project.path, "--store", "native", "--json", "--challenge", tmp_path / "mm"
    )
    assert code == 0
    run = json.loads(out)
    points = [read_figures(tmp_path / "mm" / f"{stem}.json") for stem in ("a", "b")]
    found = sum(point.above for image in points for point in image)
    assert found == sum(run["found"].values())
    words = ("evaluate", project.path, "--store", "native", "--json")
    of_run = json.loads(command(*words, "--detections", run["run"])[1])
    of_files = json.loads(command(*words, "--detections", tmp_path / "mm")[1])
    for name in ("tp", "fp", "fn"):
        assert of_files["detection"]["pooled"][name] == of_run["detection"]["pooled"][name]
    # The files hold the candidates below the threshold, a run does not.
    assert of_files["curves"]["average_precision"] is not None
    of_model = json.loads(command(*words)[1])
    assert of_files["curves"]["average_precision"] == pytest.approx(
        of_model["curves"]["average_precision"], abs=0.02
    )


def test_one_file_is_for_one_image(command, project, tmp_path):
    one = tmp_path / "mitotic-figures.json"
    words = ("annotate", project.path, "--store", "native", "--challenge", one)
    code, _, err = command(*words)
    assert code == 1
    assert "2 images are to be annotated" in err
    assert not list((project.ours / "runs").glob("*.json"))
    assert command(*words, "--image", "a*")[0] == 0
    words = ("evaluate", project.path, "--store", "native", "--detections", one, "--json")
    code, _, err = command(*words)
    assert (code, "Name the image by --image" in err) == (1, True)
    code, out, _ = command(*words, "--image", "a*")
    assert (code, json.loads(out)["detection"]["images"]) == (0, 1)


def test_pixels_where_millimetres_belong_are_refused(command, project, tmp_path):
    write_figures(tmp_path / "a.json", [FigurePoint(60, 60, 0.9, True)])
    words = ("--detections", tmp_path / "a.json", "--image", "a*")
    code, _, err = command("evaluate", project.path, "--store", "native", *words)
    assert code == 1
    assert "as pixels would" in err
    assert "millimetres" in err


def test_classify_writes_one_entry_a_crop(command, tmp_path):
    crops = [painted(64, 64, [(32, 32)]) for _ in range(3)]
    with tifffile.TiffWriter(tmp_path / "stack_1.tiff") as file:
        for crop in crops:
            file.write(crop, photometric="rgb", contiguous=False)
    save_untrained(tmp_path / "m" / "model.safetensors")
    out_file = tmp_path / "multiple-mitotic-figure-classification.json"
    words = ("classify", tmp_path / "stack_1.tiff", "--model", tmp_path / "m")
    code, out, _ = command(*words, "--json", "--challenge", out_file)
    assert code == 0
    verdicts = json.loads(out)
    said = read_classes(out_file)
    assert [one.confidence for one in said] == [one["atypical_probability"] for one in verdicts]
    assert command(*words, "--challenge", tmp_path / "folder")[0] == 0
    assert read_classes(tmp_path / "folder" / "stack_1.json") == said


def test_a_stack_with_a_broken_crop_is_not_written(command, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"none")
    save_untrained(tmp_path / "m" / "model.safetensors")
    words = ("classify", tmp_path / "bad.png", "--model", tmp_path / "m", "--challenge", tmp_path / "o.json")
    code, _, err = command(*words)
    assert code == 1
    assert "was not written" in err
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize(
    "extra", [(), ("--model", "m", "--detections", "d"), ("--detections", "a", "--against", "b")]
)
def test_a_challenge_truth_takes_only_files_of_the_challenge(command, sample, extra):
    assert command("evaluate", sample[0], *extra)[0] == 2


def test_the_command_shows_a_challenge_truth(command, sample):
    code, out, _ = command("evaluate", sample[0], "--detections", sample[1])
    assert code == 0
    assert "region type challenging" in out
    assert out.startswith("Detection: 3 images")
