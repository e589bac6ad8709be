"""Both searches, the sweep and the comparison of maps behind ``tiatoolbox_engine``."""

from __future__ import annotations

import copy
import gc
import importlib.util
import logging
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import shapely
import torch
from inference_parts import DATA, MM2_PER_PX, ratio, seconds, spent
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from slide_maker import MadeSlide, make_slide, source_tile
from train import load, machine

from midog_qupath.detection import Detection
from midog_qupath.inference.detect import ProbabilityMap, Runtime, detect
from midog_qupath.inference.heatmap import HeatMap
from midog_qupath.inference.read import Batch
from midog_qupath.inference.readers import ReaderPool
from midog_qupath.inference.segment import Normalise, Seen, choose_precision, mitosis_probability
from midog_qupath.inference.speed import Speed, default_workers
from midog_qupath.models.bundle import Bundle, load_bundle
from midog_qupath.models.fast import run_only
from midog_qupath.models.find import released_model
from midog_qupath.slides.open import open_slide
from midog_qupath.slides.resample import block_sums
from midog_qupath.units import WORKING_MPP

NETWORKS = ("fp32", "autocast", "compiled", "compiled autocast")
FOLDED = "folded"
#: Window pixels of a batch that are tried at most.
MOST_PX = 25_000_000
#: Slide pixels a pixel of the mask of tissue that TIAToolbox gets.
MASK_STEP = 32
#: Pixels from the border of a core from which what lies beyond a window does not matter any more.
DEEP = 64

Floats = NDArray[np.float32]
#: A batch of summed pixels to logits.
Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Setting:
    """How TIAToolbox runs. ``patch``: side of a window with its halo, in pixels."""

    patch: int
    batch: int
    workers: int
    network: str
    as_it_comes: bool = False

    def __str__(self) -> str:
        said = f"{self.network}, windows of {self.patch} px, batch {self.batch}, {self.workers} workers"
        return f"{said}, as it comes" if self.as_it_comes else said


@dataclass(frozen=True)
class Scene:
    """A slide and the model that it is searched with."""

    made: MadeSlide
    bundle: Bundle

    @property
    def folder(self) -> Path:
        """Where files are written."""
        return self.made.path.parent

    @property
    def map_side(self) -> int:
        """Side of the map in its pixels."""
        return -(-self.made.side // self.bundle.card.stride)

    def mask(self, area: BaseGeometry, step: int) -> NDArray[np.uint8]:
        """(H, W) 1 where pixels of side ``step`` lie in an area without its holes."""
        side = -(-self.made.side // step)
        mask = np.zeros((side, side), np.uint8)
        for part in shapely.get_parts(area):
            for number, ring in enumerate((part.exterior, *part.interiors)):
                corners = np.round(np.asarray(ring.coords) / step).astype(np.int32)
                cv2.fillPoly(mask, [corners], 0 if number else 1)
        return mask


class FloatMap:
    """Gathers the probabilities of a whole image as they are, and where no window ends near."""

    def __init__(self, side: int, stride: int) -> None:
        self.values: Floats = np.zeros((side, side), np.float32)
        self.deep = np.zeros((side, side), np.bool_)
        self._stride = stride

    def put(self, batch: Batch, seen: Seen) -> None:
        """Keep the cores of the windows of a batch."""
        for tile, values in zip(batch.tiles, seen.probability.cpu().numpy(), strict=True):
            x, y, left, top, width, height = (
                round(side) // self._stride
                for side in (tile.x, tile.y, tile.left, tile.top, tile.width, tile.height)
            )
            target = self.values[y : y + height, x : x + width]
            target[:] = values[top : top + target.shape[0], left : left + target.shape[1]]
            self.deep[y : y + height, x : x + width] = deep(height, width, self._stride)


def deep(height: int, width: int, stride: int) -> NDArray[np.bool_]:
    """(height, width) where map pixels of a core are :data:`DEEP` in it."""
    inside = np.zeros((height, width), np.bool_)
    inside[DEEP // stride : -DEEP // stride, DEEP // stride : -DEEP // stride] = True
    return inside


def ours(scene: Scene, precision: str = "auto", heatmap: ProbabilityMap | None = None) -> list[Detection]:
    """Our search, from the slide's path to detections."""
    segmenter = Speed(precision=precision).segmenter(scene.bundle)
    with ReaderPool(default_workers()) as readers, open_slide(scene.made.path) as slide:
        runtime = Runtime(segmenter, readers=readers)
        return detect(slide, WORKING_MPP, scene.bundle, scene.made.tissue, runtime=runtime, heatmap=heatmap)


def ours_with_map(scene: Scene) -> list[Detection]:
    """:func:`ours`, and the map in a file."""
    stride, side = scene.bundle.card.stride, scene.made.side
    heatmap = HeatMap(scene.folder / "scratch", (side, side), stride)
    found = ours(scene, heatmap=heatmap)
    heatmap.write(scene.folder / "ours.ome.tif", stride * WORKING_MPP)
    return found


def require_tiatoolbox() -> None:
    """Stop in one line where it is missing, and quieten it where it is not."""
    if importlib.util.find_spec("tiatoolbox") is None:
        raise click.ClickException(
            "TIAToolbox is not installed: `pip install 'tiatoolbox>=2.1'` into an environment of its own "
            "beside this package, and run this benchmark with that environment's python."
        )
    import tiatoolbox

    tiatoolbox.logger.setLevel(logging.ERROR)
    # It would compile on graphics cards only, and the wrapped network says itself whether it is compiled.
    tiatoolbox.rcParam["torch_compile_mode"] = "disable"
    import tiatoolbox.models.engine.semantic_segmentor

    # A network that does not compile must not be timed as one that did.
    torch._dynamo.config.suppress_errors = False


def network_of(bundle: Bundle, name: str) -> Network:
    """The UNet of a model, run in one of :data:`NETWORKS`' ways or folded; sums of pixels to logits."""
    if name == FOLDED:
        run = run_only(bundle.network, torch.bfloat16).segment
        normalise = Normalise(bundle, torch.bfloat16, torch.device("cpu"))
        return lambda sums: run(normalise(sums.numpy())).logits
    network = copy.deepcopy(bundle.network).to(memory_format=torch.channels_last)
    normalise = Normalise(bundle, torch.float32, torch.device("cpu"))

    def logits(images: torch.Tensor) -> torch.Tensor:
        return network.segment(images).logits

    compiled = logits
    if "compiled" in name:
        # Else shapes seen before would count against the number that may be compiled, or make all sizes free.
        torch._dynamo.reset()
        compiled = torch.compile(logits, dynamic=False, options={"freezing": True})

    def look(sums: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in name):
            return compiled(normalise(sums.numpy()))

    return look


def summed(image: NDArray[np.uint8], by: int) -> NDArray[np.int16]:
    """(H / by, W / by, 3) sums over squares of a window, as our own readers hand over."""
    return np.asarray(block_sums(image, by)).view(np.int16)


def model_of(bundle: Bundle, network: Network, grown: int) -> Any:
    """A TIAToolbox model; answers for the core of each window, each map pixel repeated ``grown`` times."""
    from tiatoolbox.models.models_abc import ModelABC

    cut = bundle.card.halo // bundle.card.stride

    class Mitoses(ModelABC):  # type: ignore[misc]
        def forward(self, sums: torch.Tensor) -> torch.Tensor:
            seen = mitosis_probability(network(sums))[:, cut:-cut, cut:-cut]
            return seen.repeat_interleave(grown, 1).repeat_interleave(grown, 2) if grown > 1 else seen

        @staticmethod
        def infer_batch(model: Any, batch_data: torch.Tensor, *, device: str) -> Floats:
            # Weights are frozen only where no gradients are wanted.
            with torch.no_grad():
                return np.asarray(model(batch_data).unsqueeze(-1).numpy())

        @staticmethod
        def postproc(image: Any) -> Any:
            # Classes are not asked for; this is the least that the engine takes instead.
            return image[:1, :1] > 1

    model = Mitoses()
    model.preproc_func = partial(summed, by=bundle.card.network.reduce)
    return model


def engine_of(stride: int) -> type[Any]:
    """TIAToolbox's engine with its map in the network's pixels and windows taken by their cores."""
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.tools.patchextraction import PatchExtractor

    class Coarse(SemanticSegmentor):  # type: ignore[misc]
        def get_dataloader(self, *args: Any, **named: Any) -> Any:
            loader = super().get_dataloader(*args, **named)
            data = loader.dataset
            # Of the slide as scanned, which is what is read here.
            shape = data.reader_info.slide_dimensions
            wanted = PatchExtractor.filter_coordinates(data.mask_reader, data.outputs, wsi_shape=shape)
            data.inputs = data.inputs[wanted]
            data.outputs = data.outputs[wanted] // stride
            data.full_outputs = data.full_outputs // stride
            data.wsi_shape = tuple(-(-int(side) // stride) for side in shape)
            self.output_locations = data.outputs
            return loader

    return Coarse


def theirs(scene: Scene, setting: Setting, network: Network, mask: NDArray[np.uint8]) -> Path:
    """TIAToolbox's search, from the slide's path to the zarr that it wrote."""
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor

    stride, core = scene.bundle.card.stride, setting.patch - 2 * scene.bundle.card.halo
    make = SemanticSegmentor if setting.as_it_comes else engine_of(stride)
    model = model_of(scene.bundle, network, stride if setting.as_it_comes else 1)
    resolution = [{"units": "mpp", "resolution": WORKING_MPP}]
    engine = make(model, setting.batch, setting.workers, device="cpu", verbose=False)
    engine.drop_keys = ["predictions"]
    written = engine.run(
        [scene.made.path],
        masks=[mask],
        patch_mode=False,
        ioconfig=IOSegmentorConfig(
            input_resolutions=resolution,
            output_resolutions=resolution,
            patch_input_shape=(setting.patch, setting.patch),
            patch_output_shape=(core, core),
            stride_shape=(core, core),
        ),
        save_dir=scene.folder / "theirs",
        overwrite=True,
        output_type="zarr",
        return_probabilities=True,
        auto_get_mask=False,
    )
    # Its workers end with it: only then their processor time is known.
    del engine
    gc.collect()
    return Path(written[scene.made.path])


def their_map(written: Path, scene: Scene, setting: Setting) -> Floats:
    """The map that TIAToolbox wrote, in the network's pixels."""
    import zarr

    step = scene.bundle.card.stride if setting.as_it_comes else 1
    return np.asarray(zarr.open(str(written), mode="r")["probabilities"][::step, ::step, 0])


class Toolbox:
    """Runs TIAToolbox on a scene. ``network``: makes one ready by its name, side of windows and batch."""

    def __init__(self, scene: Scene, network: Callable[[str, int, int], Network]) -> None:
        self._scene, self._network = scene, network
        self._mask = scene.mask(scene.made.tissue, MASK_STEP)

    def run(self, setting: Setting) -> Path:
        """One search."""
        network = self._network(setting.network, setting.patch, setting.batch)
        return theirs(self._scene, setting, network, self._mask)

    def map(self, setting: Setting) -> Floats:
        """The map of one search."""
        return their_map(self.run(setting), self._scene, setting)

    def seconds(self, setting: Setting, rounds: int) -> tuple[float, float]:
        """Least wall time of some searches and its processor time, told; infinite where it cannot run."""
        try:
            if "compiled" in setting.network:
                self.run(setting)
            wall, cpu = min(spent(partial(self.run, setting)) for _ in range(rounds))
        except (RuntimeError, MemoryError) as error:
            said = str(error).splitlines() or [type(error).__name__]
            click.echo(f"  {setting}: does not run ({said[0]})")
            return float("inf"), float("inf")
        click.echo(f"  {setting}: {wall:.2f} s wall, {cpu:.2f} s processor")
        return wall, cpu


@dataclass(frozen=True)
class Choices:
    """What is tried of each part of a setting."""

    patches: Sequence[int]
    batches: Sequence[int]
    workers: Sequence[int]
    networks: Sequence[str]

    def first(self) -> Setting:
        """Where the sweep starts."""
        return Setting(self.patches[0], self.batches[0], self.workers[0], self.networks[0])

    def near(self, setting: Setting) -> list[list[Setting]]:
        """Settings that differ in the network, in the shape of a batch, or in the workers."""
        shapes = [
            (patch, batch)
            for patch in self.patches
            for batch in self.batches
            if patch**2 * batch <= MOST_PX or batch == min(self.batches)
        ]
        return [
            [replace(setting, network=network) for network in self.networks],
            [replace(setting, patch=patch, batch=batch) for patch, batch in shapes],
            [replace(setting, workers=workers) for workers in self.workers],
        ]


def sweep(toolbox: Toolbox, choices: Choices, rounds: int) -> Setting:
    """The setting with the least wall time, part by part, twice over, so that parts can suit each other."""

    @cache
    def cost(setting: Setting) -> tuple[float, float]:
        return toolbox.seconds(setting, rounds)

    best = choices.first()
    for _ in range(2):
        for part in range(3):
            best = min(choices.near(best)[part], key=cost)
    return best


def agreement(scene: Scene, toolbox: Toolbox, setting: Setting) -> None:
    """How far both maps are apart on the tissue, further than the halo from glass and the image's edge."""
    stride, halo, side = scene.bundle.card.stride, scene.bundle.card.halo, scene.made.side
    image = shapely.box(halo, halo, side - halo, side - halo)
    inside = scene.mask(shapely.intersection(scene.made.tissue.buffer(-halo), image), stride) > 0
    core = (setting.patch - 2 * halo) // stride
    again = -(-scene.map_side // core)
    theirs_deep = np.tile(deep(core, core, stride), (again, again))[: scene.map_side, : scene.map_side]
    auto = choose_precision("auto", "cpu")
    for precision, used in (("fp32", replace(setting, network="fp32")), (auto, setting)):
        own = FloatMap(scene.map_side, stride)
        ours(scene, precision, own)
        other = toolbox.map(used)
        if other.shape != own.values.shape:
            raise click.ClickException(f"Maps of {own.values.shape} and {other.shape} do not compare.")
        apart = np.abs(own.values - other)
        click.echo(f"maps, ours {precision}, TIAToolbox {used.network}:")
        for where, chosen in (("all", inside), ("far from windows' ends", inside & own.deep & theirs_deep)):
            if chosen.any():
                most, average = apart[chosen].max(), apart[chosen].mean()
                click.echo(
                    f"  {where}: at most {most:.6f} apart, {average:.7f} on average, on {chosen.sum()} map "
                    f"pixels with up to {own.values[chosen].max():.2f}"
                )


def compare(scene: Scene, toolbox: Toolbox, setting: Setting, rounds: int, variants: bool) -> None:
    """Searches in turns, and the ratios of their times."""
    contenders: dict[str, Callable[[], object]] = {
        "ours with the map": partial(ours_with_map, scene),
        "ours, detections only": partial(ours, scene),
        "TIAToolbox": partial(toolbox.run, setting),
    }
    if variants:
        contenders["TIAToolbox as it comes"] = partial(toolbox.run, replace(setting, as_it_comes=True))
    if variants and choose_precision("auto", "cpu") == "bf16":
        contenders["TIAToolbox, our folded network"] = partial(toolbox.run, replace(setting, network=FOLDED))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, work in contenders.items():
            pair = spent(work)
            # The first turn fills caches and compiles what is new.
            if turn:
                times[name].append(pair)
    mm2 = scene.made.tissue.area * MM2_PER_PX
    click.echo(f"{mm2:.1f} mm² of tissue on {scene.made.side} x {scene.made.side} px, medians of {rounds}")
    for name, took in times.items():
        wall, cpu = (statistics.median(one[i] for one in took) / mm2 for i in (0, 1))
        click.echo(f"  {name}: {seconds(took)}; per mm² {wall:.2f} s wall, {cpu:.2f} s processor")
    for name in [name for name in times if name.startswith("TIAToolbox")]:
        for own in ("ours with the map", "ours, detections only"):
            click.echo(f"{name} / {own}: {ratio(times[name], times[own])}")


def _numbers(said: str) -> list[int]:
    return [int(part) for part in said.split(",")]


@click.command()
@click.option("--side", default=24_576, show_default=True, help="Pixels of the slide's side.")
@click.option("--sweep-side", default=10_240, show_default=True, help="The same for the sweep.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--sweep-rounds", default=2, show_default=True, help="The best of so many counts.")
@click.option("--patches", default="1024,512,1280,2048,2304,3328", show_default=True)
@click.option("--batches", default="4,1,16", show_default=True)
@click.option("--workers", default="1,0,2", show_default=True)
@click.option("--networks", default=",".join(NETWORKS), show_default=True)
@click.option("--variants/--no-variants", default=True, show_default=True, help="As it comes; folded.")
def main(
    side: int,
    sweep_side: int,
    rounds: int,
    sweep_rounds: int,
    patches: str,
    batches: str,
    workers: str,
    networks: str,
    variants: bool,
) -> None:
    """Measure, print."""
    require_tiatoolbox()
    import tiatoolbox

    file = released_model()
    if file is None:
        raise click.ClickException("This version ships no model.")
    threads = os.environ.get("OMP_NUM_THREADS", "all cores")
    click.echo(f"{machine()}; load {load()}")
    click.echo(f"torch {torch.__version__}, TIAToolbox {tiatoolbox.__version__}, threads: {threads}")
    click.echo(f"ours: {choose_precision('auto', 'cpu')}, {default_workers()} reader processes")
    bundle, source = load_bundle(file), source_tile(DATA if DATA.is_dir() else None)
    choices = Choices(_numbers(patches), _numbers(batches), _numbers(workers), networks.split(","))

    @cache
    def network(name: str, patch: int, batch: int) -> Network:
        return network_of(bundle, name)

    with tempfile.TemporaryDirectory() as place:
        small = Scene(make_slide(Path(place) / "small.tif", source, sweep_side), bundle)
        toolbox = Toolbox(small, network)
        click.echo(f"sweep on {sweep_side} x {sweep_side} px:")
        best = sweep(toolbox, choices, sweep_rounds)
        click.echo(f"best: {best}")
        agreement(small, toolbox, best)
        scene = Scene(make_slide(Path(place) / "slide.tif", source, side), bundle)
        compare(scene, Toolbox(scene, network), best, rounds, variants)
    click.echo(f"load at the end {load()}")
