"""The model that ships: small, honest about itself, taken where nothing else is given, and of some use."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_project import label
from inference_standin import Command, painted, painted_project
from shapely.geometry import box

from midog_qupath.evaluation.metrics import ScoredImage, pooled
from midog_qupath.inference.adapt import Adapter, look_at
from midog_qupath.inference.detect import detect
from midog_qupath.learning.predict import ArraySlide
from midog_qupath.learning.recipe import load_recipe
from midog_qupath.models.bundle import Bundle, load_bundle
from midog_qupath.models.find import released_model
from midog_qupath.units import WORKING_MPP

pytestmark = pytest.mark.skipif(released_model() is None, reason="this version ships no model")


@pytest.fixture(scope="module")
def file() -> Path:
    found = released_model()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def bundle(file: Path) -> Bundle:
    return load_bundle(file)


def test_it_is_small_and_its_papers_lie_beside_it(file: Path, bundle: Bundle) -> None:
    assert file.stat().st_size <= 16_000_000
    card = (file.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    licence = (file.parent / "LICENSE.md").read_text(encoding="utf-8")
    assert "Not a medical device" in card
    assert "**not** covered" in licence
    assert "$" not in card, "a number was not filled in"
    assert bundle.card.operating_point.chosen_on in card


def test_its_threshold_comes_from_cases_that_the_choosing_models_had_not_seen(bundle: Bundle) -> None:
    point = bundle.card.operating_point
    assert "had not seen" in point.chosen_on
    assert point.mitosis_calibration is not None
    assert point.atypical_calibration is not None


def test_training_starts_from_it_because_the_standard_recipe_fits_it(bundle: Bundle) -> None:
    assert load_recipe("standard").network == bundle.card.network


def test_a_project_without_a_model_is_annotated_with_it_and_told_its_terms_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"a.png": [label("Region*", box(10, 10, 200, 190), 1)]}
    project = painted_project(tmp_path / "p", {"a.png": painted(300, 200, [(60, 60)])}, labels, {})
    code, _, err = Command(monkeypatch, capsys)("annotate", project.path, "--store", "native")
    assert code == 0
    assert "the released one" in err
    assert err.count("research only") == 1


@pytest.mark.realdata
def test_it_finds_mitoses_in_real_fields_that_it_learnt_from(bundle: Bundle, data_dir: Path) -> None:
    # No measure of quality, it has seen these: a guard against shipping broken weights or thresholds.
    folder = data_dir / "breast-mitosis"
    fields = json.loads((folder / "labels" / "fields.json").read_text(encoding="utf-8"))
    rich = sorted((f for f in fields if f["domain"] == "midesec"), key=lambda f: -len(f["objects"]))[:3]
    slides = {field["file"]: _slide(folder / field["file"]) for field in rich}
    looks = {name: look_at(bundle, slide, WORKING_MPP) for name, slide in slides.items()}
    adapter = Adapter(bundle, looks, dict.fromkeys(slides, "midesec"))
    images = []
    for field in rich:
        found = detect(slides[field["file"]], WORKING_MPP, adapter.bundle_for(field["file"]))
        truth = [(o["x"], o["y"]) for o in field["objects"] if o["label"] == "Mitosis"]
        images.append(
            ScoredImage(
                truth=np.array(truth) * WORKING_MPP,
                predictions=np.array([(d.x, d.y) for d in found]).reshape(-1, 2) * WORKING_MPP,
                probabilities=np.array([d.mitosis_probability for d in found]),
            )
        )
    assert pooled(images, bundle.card.threshold).f1 > 0.5


def _slide(path: Path) -> ArraySlide:
    return ArraySlide(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
