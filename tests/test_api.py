"""What the commands do is there as functions, and importing the package costs nothing."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_project import LABELS, a_project
from learning_data import make_dataset

import midog_qupath
from midog_qupath import api


def measured(code: str) -> str:
    """What a fresh Python prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_import_takes_no_time_and_loads_nothing() -> None:
    code = "import time; start = time.perf_counter(); import midog_qupath; print(time.perf_counter() - start)"
    assert min(float(measured(code)) for _ in range(3)) <= 0.2
    code = (
        "import sys, midog_qupath, json; "
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules} - set(sys.stdlib_module_names))))"
    )
    others = {name for name in json.loads(measured(code)) if not name.startswith(("_", "midog_qupath"))}
    assert not others & {"numpy", "torch", "cv2", "paquo", "jpype", "shapely", "pydantic", "click", "scipy"}


def test_every_public_name_is_there_typed_and_documented() -> None:
    for name in midog_qupath.__all__:
        found = getattr(midog_qupath, name)
        assert name == "__version__" or inspect.getdoc(found), name
    functions = [
        value for _, value in inspect.getmembers(api, inspect.isfunction) if value.__module__ == api.__name__
    ]
    public = {one.__name__ for one in functions if not one.__name__.startswith("_")}
    assert public <= set(midog_qupath.__all__)
    assert dir(midog_qupath) == sorted(midog_qupath.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = midog_qupath.nothing


def test_what_type_checkers_see_is_what_there_is() -> None:
    tree = ast.parse(Path(midog_qupath.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.keys() | {"__version__"} == set(midog_qupath.__all__)
    for name, module in seen.items():
        assert getattr(midog_qupath, name) is getattr(sys.modules[str(module)], name)


def test_from_images_to_measured_detections(tmp_path: Path) -> None:
    """The README's way, in calls: new, labels, info, export, annotate, undo, classify."""
    labelled = a_project(tmp_path / "p", {"a.png": LABELS, "b.png": LABELS, "c.png": LABELS})
    paths = [image.path for image in labelled.images if image.path]
    project = midog_qupath.new_project(
        tmp_path / "q", [midog_qupath.NewImage(path, 0.25, {"domain": "lab"}) for path in paths]
    )
    table = tmp_path / "points.csv"
    rows = [
        f"{name},{x},{y},{word}" for name in "abc" for x, y, word in ((50, 60, "AMF"), (100, 110, "normal"))
    ]
    table.write_text("\n".join(["image,x,y,label", *rows]), encoding="utf-8")
    report = midog_qupath.import_labels(project, [table], store="native", whole=True)
    assert sum(len(image.add) for image in report.plan.images) == 6
    project = midog_qupath.open_project(str(project.path))
    with midog_qupath.open_slide(str(paths[0])) as slide:
        assert slide.width == 300
    assert midog_qupath.info(project, store="native").data["classes"] == {
        "Mitosis: Atypical": 3,
        "Mitosis: Normal": 3,
    }
    truth = midog_qupath.labels_of(project, project.images[0], store="native")
    assert (truth.extent, len(truth.objects)) == ("whole", 2)
    assert len(midog_qupath.read_objects(project.path, project.images[0], store="native")) == 2
    dataset = midog_qupath.export(project, store="native")
    assert len(dataset.objects) == 6
    options = midog_qupath.AnnotateOptions(images=["a*"], threshold=1.0)
    run = midog_qupath.annotate(project, options, store="native", device="cpu")
    assert not run.failed
    page = midog_qupath.write_report(project.path, tmp_path / "r.html", store="native").path
    assert "<html" in page.read_text(encoding="utf-8")
    counted = midog_qupath.count(project, midog_qupath.CountOptions(images=["a*"]), store="native")
    assert len(counted.images) == 1
    assert midog_qupath.undo(project, store="native").run == run.run.run
    crop = tmp_path / "crop.png"
    cv2.imwrite(str(crop), np.full((64, 64, 3), 200, np.uint8))
    (verdict,) = midog_qupath.classify([crop], device="cpu").verdicts
    assert 0 <= verdict.atypical_probability <= 1


TINY = """
name = "tiny"
precision = "fp32"
network = {encoder = "tu-mobilenetv3_small_050", decoder_channels = [32, 16, 16], classifier_channels = 8}
sampling = {tile_px = 64, batch = 6}
teacher = {steps = 2}
student = {steps = 3, contrastive_bank = 64}
"""


def test_a_model_is_trained_and_measured(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY, encoding="utf-8")
    dataset = make_dataset(tmp_path / "dataset")
    model = midog_qupath.train(
        [dataset.folder], tmp_path / "model", recipe=str(recipe), start="none", device="cpu"
    )
    assert midog_qupath.load(model, device="cpu").card.recipe["name"] == "tiny"
    masks = midog_qupath.pseudo_masks(
        dataset, tmp_path / "masks", recipe=str(recipe), model=model, objects=True, limit=2, device="cpu"
    )
    assert masks.objects == masks.whole == 6
    found = {path.relative_to(tmp_path / "masks").as_posix() for path in tmp_path.glob("masks/*/*")}
    names = (
        "overlays/field-0.png",
        "overlays/field-1.png",
        "objects/field-0.geojson",
        "objects/field-1.geojson",
    )
    assert found == set(names)
    project = a_project(tmp_path / "p", {"a.png": LABELS}, {"a.png": {"labelled": "whole"}})
    result = midog_qupath.evaluate(project, model=model, store="native", device="cpu")
    assert result.as_json()["detection"]["images"] == 1


def test_errors_are_the_package_s_own(tmp_path: Path) -> None:
    with pytest.raises(midog_qupath.MidogError, match="no QuPath project"):
        midog_qupath.info(tmp_path)
