"""The parts of the benchmark ``inference``."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import imagecodecs
import numpy as np
import psutil
import tifffile
import torch
from slide_maker import MadeSlide, make_slide, source_tile
from train import load, machine

from midog_qupath.dataset.store import Dataset
from midog_qupath.detection import Detection
from midog_qupath.evaluation.metrics import pooled
from midog_qupath.inference.compiled import export_onnx, load_compiled
from midog_qupath.inference.detect import Runtime, Tiling, detect, plan_tiles
from midog_qupath.inference.profile import Stages
from midog_qupath.inference.read import read_group
from midog_qupath.inference.readers import ReaderPool
from midog_qupath.inference.segment import Segmenter, TorchSegmenter, choose_precision
from midog_qupath.inference.speed import Speed, default_workers
from midog_qupath.learning.ground import gather
from midog_qupath.learning.scoring import score_fields
from midog_qupath.models.bundle import Bundle, load_bundle
from midog_qupath.models.find import released_model
from midog_qupath.models.student import Student
from midog_qupath.progress import SILENT
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.geojson import write_features
from midog_qupath.project.model import PathObject
from midog_qupath.project.run import as_path_objects, new_run
from midog_qupath.slides.open import open_slide
from midog_qupath.slides.tissue import find_tissue
from midog_qupath.units import WORKING_MPP
from training.experiments.plan import load_experiment

DATA = Path(__file__).parents[2] / "shared" / "data"
#: Sides of windows that the bare network is tried with.
SIDES = (1024, 2048, 3072, 4096)
MM2_PER_PX = (0.25 / 1000) ** 2


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of this process and of those that it started and ended."""

    def clock() -> tuple[float, float]:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in usage)

    before = clock()
    work()
    after = clock()
    return after[0] - before[0], after[1] - before[1]


def ratio(above: list[tuple[float, float]], below: list[tuple[float, float]]) -> str:
    """Median and range of the ratios of pairs, of wall and of processor time."""
    said = []
    for which, name in ((0, "wall"), (1, "processor")):
        values = [a[which] / b[which] for a, b in zip(above, below, strict=True)]
        said.append(f"{name} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    return ", ".join(said)


def seconds(times: list[tuple[float, float]]) -> str:
    """Medians of wall and processor seconds."""
    wall, cpu = (statistics.median(one[i] for one in times) for i in (0, 1))
    return f"{wall:.1f} s wall, {cpu:.1f} s processor"


def windows(segmenter: Segmenter, side: int) -> np.ndarray:
    """One window of ``side`` working pixels as a reader would hand it over."""
    source = source_tile(DATA if DATA.is_dir() else None)
    tiled = np.tile(source, (-(-side // len(source)),) * 2 + (1,))[:side, :side]
    slide = type("Pixels", (), {"read": lambda self, x, y, w, h, d: tiled})()
    tile = plan_tiles((side, side), Tiling(side, 0), None, 1.0, WORKING_MPP, None)[0]
    return read_group(slide, [tile], 1.0, segmenter.reduce)


def fastest(bundle: Bundle, compiled: bool) -> tuple[Segmenter, int]:
    """The fastest correct setting of the bare network: precision and window; ``compiled``: all of them."""
    best: tuple[float, Segmenter, int] | None = None
    for precision in dict.fromkeys(("fp32", choose_precision("auto", "cpu"))):
        segmenter = TorchSegmenter(bundle, precision, compiled=compiled)
        for side in SIDES if precision != "fp32" else SIDES[:2]:
            pixels = windows(segmenter, side)
            cost = min(spent(partial(segmenter, pixels))[1] for _ in range(3)) / side**2
            click.echo(f"  bare network {precision}, window {side}: {cost * 1e9:.1f} ms processor / MP")
            if best is None or cost < best[0]:
                best = (cost, segmenter, side)
    assert best is not None
    return best[1], best[2]


def speed(made: MadeSlide, bundle: Bundle, rounds: int, compiled: bool) -> None:
    """End to end against the bare network on exactly the pixels of the tissue."""
    click.echo(f"the network {'compiled' if compiled else 'as it comes'}")
    bare, side = fastest(bundle, compiled)
    pixels = windows(bare, side)
    count = made.tissue.area / side**2
    mm2 = made.tissue.area * MM2_PER_PX
    stages = Stages()
    options = Speed(precision="auto", compile=compiled)
    found: list[Detection] = []

    def end_to_end() -> None:
        with ReaderPool(default_workers()) as readers, open_slide(made.path) as slide:
            with stages.stage("tissue"):
                tissue = find_tissue(slide, WORKING_MPP)
            runtime = Runtime(options.segmenter(bundle), Tiling(), readers, stages)
            found[:] = detect(slide, WORKING_MPP, bundle, tissue, runtime=runtime)
            stages.seconds["reading in processes"] = readers.seconds

    def network() -> None:
        for _ in range(int(count)):
            bare(pixels)

    whole, alone = [], []
    for _ in range(rounds):
        wall, cpu = spent(network)
        alone.append((wall * count / int(count), cpu * count / int(count)))
        whole.append(spent(end_to_end))
    click.echo(f"{mm2:.1f} mm² of tissue on {made.side} x {made.side} px, {len(found)} detections")
    click.echo(f"end to end: {seconds(whole)}; bare network: {seconds(alone)}")
    click.echo(f"bare network / end to end: {ratio(alone, whole)}  (wanted: 0.85)")
    per = [(wall / mm2, cpu / mm2) for wall, cpu in whole]
    click.echo(f"per mm²: {seconds(per).replace('.1f', '.2f')}; best {min(p[0] for p in per):.2f} s wall")
    total = sum(stages.seconds.values())
    for name, value in sorted(stages.seconds.items(), key=lambda item: -item[1]):
        click.echo(f"  {name}: {value:.1f} s ({value / total:.0%})")


def paths(bundle: Bundle, folder: Path) -> dict[str, Callable[[Bundle], Segmenter]]:
    """The ways to run the network, the reference first."""
    file = folder / "model.onnx"
    export_onnx(bundle, file)
    return {
        "torch fp32": TorchSegmenter,
        "torch bf16, folded": partial(TorchSegmenter, precision="bf16"),
        "torch fp16, folded": partial(TorchSegmenter, precision="fp16"),
        "torch bf16, compiled": partial(TorchSegmenter, precision="bf16", compiled=True),
        "OpenVINO fp32": load_compiled(file, bundle, "fp32"),
        "OpenVINO bf16": load_compiled(file, bundle, "bf16"),
        "ONNX Runtime fp32": load_compiled(file, bundle, "fp32", "onnxruntime"),
    }


def accuracy(dataset: Path, bundle: Bundle) -> None:
    """F1 on all labelled fields of a dataset at the model's threshold, by each way to run the network."""
    ground = gather([Dataset.open(dataset)], lambda row: True, soft_labels=False)
    plain = bundle.uncalibrated()
    reference: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        for name, make in paths(bundle, Path(folder)).items():
            scored = score_fields(plain, ground, SILENT, Runtime(make))
            counts = pooled(scored, plain.card.threshold)
            reference = counts.f1 if reference is None else reference
            click.echo(
                f"  {name}: F1 {counts.f1:.4f} ({counts.tp} hits, {counts.fp} false, {counts.fn} missed); "
                f"{counts.f1 - reference:+.4f}  (wanted: within 0.005)"
            )


def variants(bundle: Bundle, rounds: int) -> None:
    """The network on one window by several runtimes, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        made = {name: make(bundle) for name, make in paths(bundle, Path(folder)).items()}
    compare(made, rounds)


def compare(made: dict[str, Segmenter], rounds: int) -> None:
    """Segmenters on one window in turns, each against the first."""
    pixels = {name: windows(segmenter, 2048) for name, segmenter in made.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for turn in range(rounds + 1):
        for name, segmenter in made.items():
            took = spent(partial(segmenter, pixels[name]))
            if turn:
                times[name].append(took)
    first = next(iter(made))
    for name, took in times.items():
        wall, cpu = (min(one[i] for one in took) * 1e9 / 2048**2 for i in (0, 1))
        versus = ratio(times[first], took)
        click.echo(f"  {name}: best {wall:.0f} ms wall, {cpu:.0f} ms processor / MP; {first} / it: {versus}")


def students(bundle: Bundle, rounds: int) -> None:
    """The networks of the experiment ``students`` on one window, in turns."""
    networks = {row.name: row.recipe.network for row in load_experiment("students").rows}
    precision = choose_precision("auto", "cpu")
    made: dict[str, Segmenter] = {}
    for name, config in networks.items():
        torch.manual_seed(0)
        card = bundle.card.model_copy(update={"network": config})
        made[name] = TorchSegmenter(Bundle(card, Student(config).eval(), ""), precision)
    compare(made, rounds)


def reading(made: MadeSlide, rounds: int) -> None:
    """Windows as the network gets them against the bare decoder on the tiles of the file that they touch."""
    with open_slide(made.path) as slide, tifffile.TiffFile(made.path) as file:
        tissue = find_tissue(slide, WORKING_MPP)
        plan = plan_tiles(
            (slide.width, slide.height), Tiling(2048, 128), tissue, 1.0, WORKING_MPP, None, 512
        )[:12]
        page = file.pages[0]
        across = -(-made.side // 512)
        numbers = sorted(
            {
                row * across + column
                for tile in plan
                for row in range(int(tile.y) // 512, -(-int(tile.y + tile.height) // 512))
                for column in range(int(tile.x) // 512, -(-int(tile.x + tile.width) // 512))
            }
        )
        raws = []
        for number in numbers:
            file.filehandle.seek(page.dataoffsets[number])
            raws.append(file.filehandle.read(page.databytecounts[number]))

        def decode() -> None:
            for raw in raws:
                imagecodecs.jpeg_decode(raw, tables=page.jpegtables, colorspace="YCBCR", outcolorspace="RGB")

        def read() -> None:
            # Anew: what the one before has kept in memory is not decoded again.
            with open_slide(made.path) as fresh:
                for tile in plan:
                    read_group(fresh, [tile], 1.0, 2)

        read()
        bare, real = [], []
        for _ in range(rounds):
            bare.append(spent(decode))
            real.append(spent(read))
    megapixels = len(numbers) * 512**2 / 1e6
    click.echo(f"{megapixels:.0f} MP of file tiles: reading {seconds(real)}, raw decoding {seconds(bare)}")
    click.echo(f"raw decoding / reading: {ratio(bare, real)}  (wanted: 0.7)")


def geojson(bundle: Bundle, folder: Path) -> None:
    """100,000 detections with outlines of about 20 corners to GeoJSON."""
    from datetime import datetime

    import shapely

    picture = folder / "one.tif"
    tifffile.imwrite(picture, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    project = create_project(folder / "one", [NewImage(picture, 0.25, {})])
    run = new_run(
        project,
        now=datetime.now().astimezone(),
        model="m",
        model_sha256=bundle.sha256,
        threshold=0.5,
        atypical_threshold=0.5,
        class_map=ClassMap(),
        software={},
        calibrated=True,
    )
    places = np.random.default_rng(0).uniform(100, 90_000, (100_000, 2))
    outlines = shapely.buffer(shapely.points(places), 14.3, quad_segs=5)
    found = [Detection(x, y, 0.9, 0.1, o) for (x, y), o in zip(places, outlines, strict=True)]
    gc.collect()
    things: list[PathObject] = []
    made = spent(lambda: things.extend(as_path_objects(found, run, "1")))
    written = spent(lambda: write_features(folder / "many.geojson", things))
    click.echo(
        f"100,000 detections to GeoJSON: {made[0] + written[0]:.1f} s wall, of these {written[0]:.2f} s "
        f"writing and {made[0]:.2f} s making the objects that any store gets  (wanted: 1 s)"
    )


def memory(folder: Path, source: np.ndarray) -> None:
    """Peak of the sum of PSS over all processes of ``annotate``, and its time, by the size of the slide."""
    for side in (10_000, 17_408, 31_744, 100_352):
        made = make_slide(folder / f"m{side}.tif", source, side, 0.05)
        project = create_project(folder / f"p{side}", [NewImage(made.path, 0.25, {})])
        words = [sys.executable, "-m", "midog_qupath", "annotate", str(project.path), "--store", "native"]
        began = time.perf_counter()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
        peaks = [0.0]
        watcher = threading.Thread(target=_watch, args=(process, peaks))
        watcher.start()
        _, said = process.communicate()
        watcher.join()
        wall = time.perf_counter() - began
        if process.returncode:
            raise click.ClickException(said.decode()[-500:])
        mm2 = made.tissue.area * MM2_PER_PX
        click.echo(
            f"{side**2:.1e} px, {mm2:.1f} mm²: peak {peaks[0] / 1e9:.2f} GB PSS, {wall:.0f} s wall, "
            f"{wall / mm2:.2f} s/mm²"
        )
        made.path.unlink()


def _watch(process: subprocess.Popen[bytes], peaks: list[float]) -> None:
    while process.poll() is None:
        try:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            peaks[0] = max(peaks[0], sum(one.memory_full_info().pss for one in tree))
        except psutil.Error:
            continue
        time.sleep(0.1)


@click.command()
@click.option("--side", default=24_576, show_default=True, help="Pixels of the slide's side.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--parts", default="speed,network,students,accuracy,reading,geojson,memory", show_default=True)
@click.option(
    "--dataset", type=click.Path(path_type=Path), default=Path(".experiments/dataset"), show_default=True,
    help="For accuracy: a folder that export wrote.",
)  # fmt: skip
def main(side: int, rounds: int, parts: str, dataset: Path) -> None:
    """Measure, print."""
    file = released_model()
    if file is None:
        raise click.ClickException("This version ships no model.")
    threads = os.environ.get("OMP_NUM_THREADS", "all cores")
    click.echo(f"{machine()}; torch {torch.__version__}, threads: {threads}; load {load()}")
    bundle, source = load_bundle(file), source_tile(DATA if DATA.is_dir() else None)
    asked = parts.split(",")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if "speed" in asked or "reading" in asked:
            made = make_slide(folder / "slide.tif", source, side)
        if "speed" in asked:
            for compiled in (False, True):
                speed(made, bundle, rounds, compiled)
        if "network" in asked:
            variants(bundle, rounds)
        if "students" in asked:
            students(bundle, rounds)
        if "accuracy" in asked:
            accuracy(dataset, bundle)
        if "reading" in asked:
            reading(made, rounds)
        if "geojson" in asked:
            geojson(bundle, folder)
        if "memory" in asked:
            memory(folder, source)
    click.echo(f"load at the end {load()}")
