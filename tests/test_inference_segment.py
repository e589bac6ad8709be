"""The network as it is run: the same detections however windows are cut, faster precisions, little memory."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from inference_standin import ArraySlide, painted, standin_bundle

from midog_qupath.errors import ModelError
from midog_qupath.inference.detect import Runtime, Tiling, detect
from midog_qupath.inference.forward import classify, classify_few
from midog_qupath.inference.segment import TorchSegmenter, choose_precision
from midog_qupath.inference.speed import Speed
from midog_qupath.models.bundle import Bundle, BundleCard, load_bundle
from midog_qupath.models.fast import run_only
from midog_qupath.models.find import released_model
from midog_qupath.models.strips import work_in_strips
from midog_qupath.models.student import NetworkConfig, Student

released = pytest.mark.skipif(released_model() is None, reason="this version ships no model")


class Stingy(TorchSegmenter):
    """A device with memory for so many pixels."""

    def __init__(self, bundle: Bundle, most: int) -> None:
        super().__init__(bundle)
        self.most, self.sizes = most, []

    def __call__(self, pixels):
        size = pixels.shape[0] * pixels.shape[1] * pixels.shape[2]
        if size > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.sizes.append(size)
        return super().__call__(pixels)


def close(found, wanted, position=1e-6, probability=1e-5):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert (a.x, a.y) == pytest.approx((b.x, b.y), abs=position)
        assert a.mitosis_probability == pytest.approx(b.mitosis_probability, abs=probability)


@pytest.mark.parametrize("most", [700_000, 450_000])
def test_a_device_with_too_little_memory_sees_less_at_once_and_finds_the_same(most):
    figures = [(40 + 130 * i, 50 + 160 * j) for i in range(9) for j in range(5)]
    slide, bundle = ArraySlide(painted(1200, 800, figures)), standin_bundle()
    wanted = detect(slide, 0.25, bundle)
    made = []

    def make(bundle):
        made.append(Stingy(bundle, most))
        return made[-1]

    close(detect(slide, 0.25, bundle, runtime=Runtime(segmenter=make)), wanted)
    assert len(wanted) == len(figures)
    assert max(made[0].sizes) <= most


def test_no_memory_at_all_is_one_clear_error():
    slide = ArraySlide(painted(300, 300, []))
    with pytest.raises(ModelError, match="too little memory"):
        detect(slide, 0.25, standin_bundle(), runtime=Runtime(segmenter=partial(Stingy, most=1)))


def test_other_errors_are_not_taken_for_it():
    def broken(bundle):
        return lambda pixels: (_ for _ in ()).throw(RuntimeError("shapes do not fit"))

    segmenter = type("S", (), {"reduce": 1, "__call__": lambda self, pixels: broken(0)(pixels)})
    with pytest.raises(RuntimeError, match="shapes"):
        detect(
            ArraySlide(painted(300, 300, [])),
            0.25,
            standin_bundle(),
            runtime=Runtime(segmenter=lambda bundle: segmenter()),
        )


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "tu-mobilenetv3_small_050", "resnet18"])
def test_folding_normalisation_changes_nothing(encoder):
    torch.manual_seed(0)
    network = Student(NetworkConfig(encoder=encoder, decoder_channels=(16, 16, 16))).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    images = torch.randn(1, 3, 128, 128)
    one, other = network.segment(images).logits, run_only(network, torch.float32).segment(images).logits
    assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_pieces_of_the_feature_maps_are_classified_as_the_whole():
    torch.manual_seed(0)
    card = BundleCard(name="random", created="", network=NetworkConfig())
    bundle = Bundle(card, Student(card.network).eval(), "")
    generator = np.random.default_rng(0)
    with torch.inference_mode():
        features = bundle.network(torch.randn(1, 3, 640, 768)).features
        positions = np.column_stack(
            [np.zeros(5), generator.uniform(40, 600, 5), generator.uniform(40, 728, 5)]
        )
        few, whole = classify_few(bundle, features, positions), classify(bundle, features, positions)
    assert np.allclose(few, whole, atol=1e-5)


@pytest.fixture(scope="module")
def real(data_dir: Path):
    file = released_model()
    assert file is not None
    fields = sorted((data_dir / "breast-mitosis" / "images").glob("midesec*.png"))[:2]
    pixels = np.hstack([cv2.imread(str(field))[:704, :960, ::-1] for field in fields])
    return load_bundle(file), ArraySlide(np.ascontiguousarray(pixels))


def same_but_for_rounding(found, wanted, threshold, pixels=1.0, probability=0.02):
    """Each detection has its like, unless it lies within 0.02 of the threshold."""
    for some, others in ((found, wanted), (wanted, found)):
        for one in some:
            near = [o for o in others if np.hypot(o.x - one.x, o.y - one.y) <= pixels]
            if near:
                assert abs(near[0].mitosis_probability - one.mitosis_probability) <= probability
            else:
                assert abs(one.mitosis_probability - threshold) <= probability


@released
@pytest.mark.realdata
@pytest.mark.parametrize("core", [256, 608])
def test_with_its_halo_the_released_model_finds_the_same_however_the_image_is_cut(real, core):
    bundle, slide = real
    threshold = 0.02
    wanted = detect(slide, 0.25, bundle, minimum_probability=threshold)
    tiled = detect(slide, 0.25, bundle, minimum_probability=threshold, tiling=Tiling(core=core))
    assert len(wanted) > 5
    same_but_for_rounding(tiled, wanted, threshold)


@released
@pytest.mark.realdata
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_faster_precisions_find_the_same_as_the_reference(real, precision):
    bundle, slide = real
    wanted = detect(slide, 0.25, bundle, minimum_probability=0.05)
    runtime = Runtime(segmenter=partial(TorchSegmenter, precision=precision))
    found = detect(slide, 0.25, bundle, minimum_probability=0.05, runtime=runtime)
    same_but_for_rounding(found, wanted, 0.05, pixels=2.0, probability=0.04)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@released
@pytest.mark.realdata
def test_compiled_the_network_finds_the_same(real):
    bundle, slide = real
    runtimes = [
        Runtime(segmenter=partial(TorchSegmenter, precision="bf16", compiled=compiled))
        for compiled in (False, True)
    ]
    wanted, found = (
        detect(slide, 0.25, bundle, minimum_probability=0.02, runtime=runtime) for runtime in runtimes
    )
    assert len(wanted) > 5
    same_but_for_rounding(found, wanted, 0.02)


def untrained() -> Bundle:
    card = BundleCard(name="untrained", created="", network=NetworkConfig())
    return Bundle(card, Student(card.network).eval(), "0" * 64)


def test_without_a_compiler_compile_says_so(monkeypatch):
    def fail(*args: object, **more: object) -> None:
        raise RuntimeError("\nInvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda *args, **more: fail)
    with pytest.raises(ModelError, match="No working C\\+\\+ compiler"):
        Speed(compile=True).segmenter(untrained())


def test_averaging_orientations_finds_what_is_there():
    slide, bundle = ArraySlide(painted(300, 200, [(60, 50), (210, 120)])), standin_bundle()
    runtime = Runtime(segmenter=partial(TorchSegmenter, flips=4))
    close(detect(slide, 0.25, bundle, runtime=runtime), detect(slide, 0.25, bundle))


def test_precision_is_chosen_by_the_device():
    assert choose_precision("fp16", "cpu") == "fp16"
    assert choose_precision("auto", "mps") == "fp32"
    assert choose_precision("auto", "cpu") in {"fp32", "bf16"}


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "tu-resnet18", "tu-mobilenetv3_small_050"])
@pytest.mark.parametrize("size", [(320, 96), (96, 320), (32, 32)])
@torch.inference_mode()
def test_working_in_strips_changes_nothing(encoder, size):
    torch.manual_seed(0)
    network = Student(NetworkConfig(encoder=encoder)).eval()
    images = torch.randn(2, 3, *size)
    wanted = network.segment(images)
    work_in_strips(network, strip_px=1)
    seen = network.segment(images)
    for one, other in zip((seen.logits, *seen.features), (wanted.logits, *wanted.features), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
