"""``pseudo-masks``: overlays, QuPath objects and counts of what training would learn from."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from learning_data import make_dataset

from midog_qupath.cli.main import main
from midog_qupath.dataset.format import AreaRow
from midog_qupath.learning.ground import Ground, gather
from midog_qupath.learning.mask_outlines import mask_polygon
from midog_qupath.learning.mask_report import count, masks_of
from midog_qupath.learning.point_masks import agreement, as_points, compare_with_outlines
from midog_qupath.learning.recipe import TeacherRecipe
from midog_qupath.project.geojson import read_features
from midog_qupath.project.model import ObjectKind

TINY = """
[network]
encoder = "tu-mobilenetv3_small_050"
decoder_channels = [32, 16, 16]
classifier_channels = 8
[sampling]
tile_px = 64
batch = 4
[teacher]
steps = 3
"""


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["midog-qupath", "pseudo-masks", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def everything(folder: Path) -> Ground:
    return gather([make_dataset(folder)], lambda row: True, soft_labels=True)


def test_overlays_objects_and_counts_of_a_teacher_trained_here_and_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(tmp_path / "data")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY, encoding="utf-8")
    out = tmp_path / "masks"
    assert (
        run(monkeypatch, tmp_path / "data", "-o", out, "--recipe", recipe, "--objects", "--device", "cpu")
        == 0
    )
    assert "(100.0 %)" in capsys.readouterr().out
    overlays = sorted(path.name for path in (out / "overlays").iterdir())
    assert overlays == [f"field-{i}.png" for i in range(6)]
    assert cv2.imread(str(out / "overlays" / "field-0.png")).shape == (192, 192, 3)
    found = read_features(out / "objects" / "field-0.geojson")
    assert {item.kind for item in found} == {ObjectKind.DETECTION}
    assert sorted(item.class_name or "" for item in found if item.class_name != "Nucleus") == [
        "Mitosis", "Mitosis", "Non-mitosis",
    ]  # fmt: skip

    again = ["--model", out / "teacher.safetensors", "--limit", 2, "--json", "--device", "cpu"]
    assert run(monkeypatch, tmp_path / "data", *again) == 0
    total = json.loads(capsys.readouterr().out)
    assert total["objects"] == total["whole"] == 6
    assert 0 <= total["share_ignored"] <= 1
    assert len(list((Path(total["folder"]) / "overlays").iterdir())) == 2
    assert not (Path(total["folder"]) / "objects").exists()


def test_what_is_no_dataset_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path) == 1
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize("masks", ["disc", "seeds"])
def test_every_object_is_one_component_in_its_label_also_beside_another(tmp_path: Path, masks: str) -> None:
    ground = everything(tmp_path / "data")
    for area in ground.areas:
        found = masks_of(area, None, TeacherRecipe.model_validate({"masks": masks}))
        counts = count(found)
        assert counts.objects == counts.whole == 3
        for label, mask in zip(area.labels, found.objects, strict=True):
            y0, x0, y1, x1 = label.box
            assert (found.classes[y0:y1, x0:x1][mask] == label.pixel_class).all()


def test_seeds_number_the_nuclei_that_were_drawn(tmp_path: Path) -> None:
    area = everything(tmp_path / "data").areas[0]
    counts = count(masks_of(area, None, TeacherRecipe(masks="seeds")))
    assert counts.nuclei == 6
    assert counts.share_ignored < 0.2


def test_a_mask_becomes_the_outline_of_its_pixels_on_the_slide() -> None:
    mask = np.zeros((10, 12), bool)
    mask[3:7, 2:8] = True
    row = AreaRow("i", 1000.0, 500.0, 2.0, 100, 100, "x")
    square = mask_polygon(mask, (20, 30), row)
    assert square.equals(shapely.box(1000 + 64, 500 + 46, 1000 + 76, 500 + 54))
    alone = np.zeros((3, 3), bool)
    alone[1, 1] = True
    assert mask_polygon(alone, (0, 0), row).area == pytest.approx(4)


def test_masks_from_centres_are_compared_with_the_outlines_they_were_not_shown(tmp_path: Path) -> None:
    drawn = _outlined(everything(tmp_path / "data"))
    pointed = as_points(drawn)
    assert all(label.is_outline for area in drawn.areas for label in area.labels)
    assert not any(label.is_outline for area in pointed.areas for label in area.labels)
    discs, seeds = compare_with_outlines(drawn)
    assert discs.count == seeds.count == 18
    assert seeds.median > max(discs.median, 0.6)


def test_agreement_by_hand() -> None:
    told = agreement("masks", [0.2, 0.4, 0.6, 0.8])
    assert (told.count, told.median, told.share_below_03) == (4, 0.5, 0.25)
    assert np.isnan(agreement("masks", []).median)


def _outlined(ground: Ground) -> Ground:
    """The same objects, outlined as people do: a margin around what is dark."""
    from dataclasses import replace

    from midog_qupath.learning.labels import area_labels

    areas = []
    for area in ground.areas:
        rows = []
        for label in area.labels:
            y0, x0, y1, x1 = label.box
            dark = (np.asarray(area.pixels[y0:y1, x0:x1]).max(axis=2) < 160).astype(np.uint8)
            dark = cv2.dilate(dark, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
            polygon = mask_polygon(dark > 0, (y0, x0), area.row)
            rows.append(replace(label.row, shape="polygon", polygon=shapely.to_wkb(polygon)))
        areas.append(replace(area, labels=tuple(area_labels(area.row, rows))))
    return replace(ground, areas=tuple(areas))
