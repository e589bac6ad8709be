"""``classify``: verdicts on bare crops, the same as on the image they were cut from, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from inference_standin import ArraySlide, Command, painted, save_untrained, standin_bundle

from midog_qupath.errors import ModelError
from midog_qupath.inference.crop_files import read_crops
from midog_qupath.inference.crops import classify_files, classify_windows, crop_window
from midog_qupath.inference.detect import classify_at
from midog_qupath.inference.forward import atypical_given_mitosis
from midog_qupath.models.bundle import Bundle, load_bundle
from midog_qupath.slides.base import RgbArray
from midog_qupath.units import WORKING_MPP, MicronsPerPixel


@pytest.fixture
def midog(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def bundle(model: Path) -> Bundle:
    return load_bundle(model)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth patches of colour, so that no two crops look alike."""
    size = (height // 8 + 1, width // 8 + 1, channels)
    coarse = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    return cv2.resize(coarse, (width, height)).reshape(height, width, channels)


def figure(green: int, size: int = 64) -> RgbArray:
    """A crop with a dark disc in its centre; the stand-in model calls green 0 atypical, 255 normal."""
    return painted(size, size, [(size / 2, size / 2)], green=green, radius=6)


def write(path: Path, pixels: np.ndarray) -> Path:
    bgr = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.ndim == 3 and pixels.shape[2] > 1 else pixels
    assert cv2.imwrite(str(path), bgr)
    return path


def verdicts(out: str) -> dict[str, float]:
    return {row["file"]: row["atypical_probability"] for row in json.loads(out)}


@pytest.mark.parametrize("cell", [64, 96, 128])
def test_a_cell_cut_out_is_judged_like_in_its_mosaic(
    cell: int, tmp_path: Path, bundle: Bundle, model: Path, midog: Command
) -> None:
    mosaic = noise(cell, 3 * cell)
    centres = np.array([((i + 0.5) * cell, cell / 2) for i in range(3)])
    classes = classify_at(ArraySlide(mosaic), WORKING_MPP, bundle, centres, cell_px=cell)
    expected = atypical_given_mitosis(bundle, classes)
    for i in range(3):
        write(tmp_path / f"{i}.png", mosaic[:, i * cell : (i + 1) * cell])
    code, out, _ = midog("classify", tmp_path, "--model", model, "--json")
    assert code == 0
    assert list(verdicts(out).values()) == pytest.approx(expected, abs=1e-3)
    assert max(expected) - min(expected) > 1e-3, "the cells must differ for this to mean anything"


def test_json_is_a_list_in_the_order_given(tmp_path: Path, model: Path, midog: Command) -> None:
    folder = tmp_path / "crops"
    (folder / "inside").mkdir(parents=True)
    for name in ("b.png", "a.jpg", "c.bmp", "inside/d.png"):
        write(folder / name, noise(64, 64))
    (folder / "labels.csv").write_text("a.jpg,atypical\n", encoding="utf-8")
    last = write(tmp_path / "0.png", noise(64, 64))
    code, out, _ = midog("classify", folder, last, "--model", model, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["file"] for row in rows] == ["a.jpg", "b.png", "c.bmp", "0.png"]
    for row in rows:
        assert set(row) == {"file", "class", "atypical_probability"}
        assert row["class"] == ("atypical" if row["atypical_probability"] >= 0.5 else "normal")


def test_without_json_a_line_a_crop_and_the_counts(tmp_path: Path, model: Path, midog: Command) -> None:
    write(tmp_path / "one.png", noise(64, 64))
    code, out, _ = midog("classify", tmp_path, "--model", model)
    assert code == 0
    assert out.splitlines()[0].split()[0] == "one.png"
    assert out.splitlines()[-1].startswith("1 crop:")


@pytest.mark.parametrize("size", [16, 63, 64, 100, 128, 150, 193, 400])
def test_the_centre_is_judged_whatever_the_size(size: int) -> None:
    for green, atypical in ((0, True), (255, False)):
        (p,) = classify_windows(standin_bundle(), [crop_window(figure(green, size), 1.0)])
        assert (p > 0.9) is atypical


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 20), (300, 64), (65, 64)])
def test_crops_need_not_be_square(height: int, width: int) -> None:
    crop = painted(width, height, [(width / 2, height / 2)], green=0, radius=6)
    (p,) = classify_windows(standin_bundle(), [crop_window(crop, 1.0)])
    assert p > 0.9


@pytest.mark.parametrize("mpp", [0.0625, 0.1, 0.125, 0.23, 0.5, 0.6])
def test_other_resolutions_show_the_network_the_same(mpp: float) -> None:
    size = round(100 * 0.25 / mpp)
    crop = painted(size, size, [(size / 2, size / 2)], radius=round(6 / mpp / 2))
    reference = crop_window(painted(100, 100, [(50, 50)], radius=12), 1.0)
    window = crop_window(crop, 0.25 / mpp)
    assert window.pixels.shape == reference.pixels.shape
    assert (window.x, window.y) == pytest.approx((reference.x, reference.y), abs=1)
    assert np.abs(window.pixels.mean((0, 1)) - reference.pixels.mean((0, 1))).max() < 2


def test_past_the_border_is_the_mirror_image_and_never_white() -> None:
    crop = np.minimum(noise(64, 64), 200)
    for downsample in (1.0, 0.5, 1.3, 2.5):
        assert crop_window(crop, downsample).pixels.max() <= 201
    window = crop_window(crop, 1.0).pixels
    assert window.shape == (128, 128, 3)
    assert np.array_equal(window[32:96, 32:96], crop)
    assert np.array_equal(window[31, 32:96], crop[1])


def test_grey_transparent_and_16_bit_crops_are_read(tmp_path: Path) -> None:
    rgb, grey = noise(64, 64), noise(64, 64, 1)
    opaque = np.dstack([rgb, np.full((64, 64), 255, np.uint8)])
    clear = np.dstack([rgb, np.zeros((64, 64), np.uint8)])
    deep = rgb.astype(np.uint16) * 257
    as_rgb = np.repeat(grey, 3, axis=2)
    cases = {"opaque": (opaque, rgb), "clear": (clear, np.full_like(rgb, 255)), "deep": (deep, rgb)}
    for name, (stored, expected) in {**cases, "grey": (grey, as_rgb), "rgb": (rgb, rgb)}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", stored.squeeze())
        for path in (write(tmp_path / f"{name}.png", stored), tmp_path / f"{name}.tif"):
            ((found, pixels),) = read_crops(path)
            assert found == path.name
            assert np.array_equal(pixels, expected), path


def test_every_page_of_a_stack_is_a_crop(tmp_path: Path, bundle: Bundle) -> None:
    crops = [noise(64, 64, seed=i) for i in range(3)]
    stack = tmp_path / "stack.tiff"
    tifffile.imwrite(stack, np.stack(crops), photometric="rgb", compression="zlib")
    singles = [write(tmp_path / f"{i}.png", crop) for i, crop in enumerate(crops)]
    report = classify_files(bundle, [stack, *singles], WORKING_MPP)
    names, found = zip(*((v.file, v.atypical_probability) for v in report.verdicts), strict=True)
    assert names == ("stack.tiff#0", "stack.tiff#1", "stack.tiff#2", "0.png", "1.png", "2.png")
    assert found[:3] == pytest.approx(found[3:], abs=1e-6)


def test_a_pyramid_is_one_crop_and_a_stack_cut_short_is_refused(tmp_path: Path) -> None:
    pyramid = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(pyramid) as file:
        file.write(noise(128, 128), photometric="rgb")
        file.write(noise(64, 64), photometric="rgb", subfiletype=1)
    assert [name for name, _ in read_crops(pyramid)] == ["pyramid.tif"]
    whole = tmp_path / "stack.tif"
    tifffile.imwrite(whole, np.stack([noise(64, 64, seed=i) for i in range(4)]), photometric="rgb")
    data = whole.read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.tif").write_bytes(data[: int(len(data) * share)])
        assert any(isinstance(crop, Exception) for _, crop in read_crops(tmp_path / "cut.tif")), share


def test_what_cannot_be_read_is_named_and_the_rest_judged(
    tmp_path: Path, model: Path, midog: Command
) -> None:
    write(tmp_path / "good.png", noise(64, 64))
    write(tmp_path / "tiny.png", noise(15, 64))
    write(tmp_path / "field.png", np.zeros((20, 5000), np.uint8))
    write(tmp_path / "dim.png", noise(64, 64).astype(np.uint16))
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-30])
    (tmp_path / "text.png").write_text("not an image", encoding="utf-8")
    (tmp_path / "empty.png").write_bytes(b"")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((64, 64), np.float32))
    code, out, err = midog("classify", tmp_path, "--model", model, "--json")
    assert code == 1
    assert list(verdicts(out)) == ["good.png"]
    warned = [line for line in err.splitlines() if line.startswith("Warning: ")]
    named = sorted(line.split()[1].rstrip(":") for line in warned)
    bad = ["cut.png", "dim.png", "empty.png", "field.png", "float.tif", "text.png", "tiny.png"]
    assert named == bad
    assert "Traceback" not in err


def test_the_threshold_is_told_and_crops_that_show_nothing_are_named(
    tmp_path: Path, model: Path, midog: Command
) -> None:
    write(tmp_path / "good.png", noise(64, 64))
    write(tmp_path / "pale.png", 230 + noise(64, 64) // 12)
    write(tmp_path / "grey.png", noise(64, 64, 1))
    for i in range(7):
        write(tmp_path / f"white-{i}.png", np.full((64, 64, 3), (250, 248, 252), np.uint8))
    code, out, err = midog("classify", tmp_path, "--model", model, "--json")
    assert (code, len(verdicts(out))) == (0, 10), "every crop of a challenge needs a verdict"
    assert "atypical from a probability of 0.5 on" in err
    blank, grey = (line for line in err.splitlines() if line.startswith("Warning: "))
    assert "show nothing" in blank
    assert blank.endswith("white-0.png, white-1.png, white-2.png, white-3.png, white-4.png and 2 more.")
    assert "no colour" in grey
    assert grey.endswith(": grey.png.")


def test_crops_of_far_too_few_microns_are_refused(tmp_path: Path, model: Path, midog: Command) -> None:
    write(tmp_path / "a.png", noise(32, 32))
    code, out, err = midog("classify", tmp_path, "--model", model, "--mpp", 0.1, "--json")
    assert (code, json.loads(out)) == (1, [])
    assert "--mpp" in err


def test_nothing_to_classify_is_one_line(tmp_path: Path, model: Path, midog: Command) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in "ab":
        write(tmp_path / folder / "x.png", noise(64, 64))
    (tmp_path / "none").mkdir()
    for words in ((tmp_path / "none",), (tmp_path / "missing.png",), (tmp_path / "a", tmp_path / "b")):
        code, out, err = midog("classify", *words, "--model", model)
        assert (code, out) == (1, "")
        assert len([line for line in err.splitlines() if line.startswith("Error: ")]) == 1
    code, _, err = midog("classify", "--model", model)
    assert code == 2
    code, _, err = midog("classify", tmp_path / "a", "--model", model, "--mpp", 2)
    assert code == 2
    code, _, err = midog("classify", tmp_path / "a", "--model", tmp_path / "none")
    assert code == 1
    assert err.startswith("Error: There is no model at")


def test_a_model_without_an_atypical_part_is_refused(tmp_path: Path, midog: Command) -> None:
    untaught = save_untrained(tmp_path / "untaught.safetensors", has_atypical=False)
    crop = write(tmp_path / "a.png", noise(64, 64))
    code, out, err = midog("classify", crop, "--model", untaught)
    assert (code, out) == (1, "")
    assert "not taught normal and atypical" in err
    with pytest.raises(ModelError):
        classify_files(load_bundle(untaught), [], WORKING_MPP)


def test_the_models_own_threshold_decides(tmp_path: Path) -> None:
    crop = write(tmp_path / "a.png", figure(128))
    base = standin_bundle()
    for threshold, atypical in ((0.5, True), (0.51, False)):
        point = base.card.operating_point.model_copy(update={"atypical_threshold": threshold})
        card = base.card.model_copy(update={"operating_point": point})
        report = classify_files(Bundle(card, base.network, base.sha256), [crop], MicronsPerPixel(0.25))
        assert [v.atypical for v in report.verdicts] == [atypical]


@pytest.mark.realdata
def test_a_stack_of_the_challenge(data_dir: Path, model: Path, midog: Command) -> None:
    code, out, _ = midog("classify", data_dir / "midog" / "stack_5.tiff", "--model", model, "--json")
    assert code == 0
    assert list(verdicts(out)) == [f"stack_5.tiff#{i}" for i in range(16)]


@pytest.mark.realdata
def test_a_real_cell_is_judged_like_in_its_mosaic(data_dir: Path, tmp_path: Path, bundle: Bundle) -> None:
    source = data_dir / "breast-mitosis" / "images" / "atlas_aperio-cs2_00.jpg"
    mosaic = cv2.imread(str(source))[:256, :, ::-1]
    centres = np.array([(128 * i + 64.0, 128 + 64.0) for i in range(4)])
    classes = classify_at(ArraySlide(mosaic), WORKING_MPP, bundle, centres, cell_px=128)
    cells = [write(tmp_path / f"{i}.png", mosaic[128:256, 128 * i : 128 * (i + 1)]) for i in range(4)]
    report = classify_files(bundle, cells, WORKING_MPP)
    found = [v.atypical_probability for v in report.verdicts]
    assert found == pytest.approx(atypical_given_mitosis(bundle, classes), abs=1e-3)
