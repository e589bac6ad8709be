"""Steps a second of the real student training against a bare forward and backward loop.

They run in turns in one process: a block of real steps (every part of the recipe: batches, losses,
gradients' norm, optimiser, moving average, log), then blocks of forward and backward passes of the same
network on one batch of the same shape in the same precision and memory format: of the UNet alone, and of
the UNet with the classifier at as many candidates as a training batch holds. Prints the ratio of each pair
of blocks; on a busy machine the ratio of processor time says more than that of wall time.

    ./run bench train [--dataset DATASET] [--recipe standard] [--workers N] [--device auto]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import torch

from midog_qupath.cli.export import export_with_defaults
from midog_qupath.dataset.store import Dataset
from midog_qupath.demo.project import generate_project
from midog_qupath.inference.device import choose_device
from midog_qupath.learning.fitting import fit_recipe
from midog_qupath.learning.ground import Ground, SpotSet, gather
from midog_qupath.learning.prefetch import Prefetch, choose_workers
from midog_qupath.learning.pseudo_masks import first_masks
from midog_qupath.learning.recipe import Recipe, load_recipe
from midog_qupath.learning.student import study
from midog_qupath.learning.teacher import Lesson
from midog_qupath.learning.training import Training, new_card
from midog_qupath.learning.workfolder import WorkFolder
from midog_qupath.progress import SILENT

#: Steps of a block, and steps at the start that do not count (memory is still being laid out).
BLOCK, WARM_UP = 10, 4
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


@dataclass(frozen=True)
class Spent:
    """Seconds of wall and of processor time."""

    wall: float
    cpu: float

    @staticmethod
    def now() -> Spent:
        """The clocks; waits for the device first."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return Spent(time.perf_counter(), time.process_time())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)


@dataclass
class Turns:
    """Listens to the training and, after each block of its steps, lets each bare loop run one."""

    bare: Mapping[str, Callable[[int], None]]
    real: list[Spent] = field(default_factory=list)
    blocks: dict[str, list[Spent]] = field(default_factory=dict)
    _steps: int = -WARM_UP
    _began: Spent = field(default_factory=Spent.now)

    @contextlib.contextmanager
    def task(self, label: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        """Count the student's steps; other work (mining) is let pass."""
        yield self._advance if label == "student" else lambda amount: None

    def _advance(self, amount: float) -> None:
        if amount == 0:
            return
        self._steps += 1
        if self._steps == 0:
            for loop in self.bare.values():
                loop(WARM_UP)
            self._began = Spent.now()
        elif self._steps == BLOCK:
            self.real.append(Spent.now() - self._began)
            for name, loop in self.bare.items():
                began = Spent.now()
                loop(BLOCK)
                self.blocks.setdefault(name, []).append(Spent.now() - began)
            self._steps, self._began = 0, Spent.now()

    def note(self, message: str) -> None:
        """Nothing to tell."""

    def warn(self, message: str) -> None:
        """Nothing to tell."""


def bare_loop(training: Training, candidates: int) -> Callable[[int], None]:
    """Forward and backward passes of the network alone, on one batch that never changes.

    ``candidates``: how many the classifier looks at, in the middle of the tiles; 0 for the UNet alone.
    """
    network = training.new_network().train()
    sampling, device = training.recipe.sampling, training.compute.device
    images = torch.randn(sampling.batch, 3, sampling.tile_px, sampling.tile_px, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    positions = torch.full((candidates, 3), sampling.tile_px / 2, device=device)
    positions[:, 0] = torch.arange(candidates, device=device) % sampling.batch

    def run(steps: int) -> None:
        for _ in range(steps):
            network.zero_grad(set_to_none=True)
            with training.compute.autocast():
                output = network(images)
                classes = network.classify(output.features, positions) if candidates else None
            loss = output.logits.float().mean()
            if classes is not None:
                loss = loss + classes.float().mean()
            loss.backward()

    return run


@dataclass(frozen=True)
class Watched(Training):
    """A training that keeps its source of batches, to ask how long it was waited for."""

    sources: list[Prefetch] = field(default_factory=list)

    def batches(self, ground: Ground, stream: int, mined: SpotSet) -> Prefetch:
        """As a training's own."""
        self.sources.append(super().batches(ground, stream, mined))
        return self.sources[-1]


def prepare(dataset: Path, recipe: Recipe, device: str, folder: Path) -> tuple[Watched, Lesson]:
    """The student's training up to its first step, on masks from haematoxylin alone."""
    data = Dataset.open(dataset)
    ground = gather([data], lambda row: row.split == "train", recipe.student.soft_labels)
    fitted = fit_recipe(recipe, ground, SILENT)
    work = WorkFolder(folder)
    work.begin({})
    training = Watched(
        recipe=fitted,
        ground=ground,
        card=new_card("benchmark", fitted, ground, [data], has_atypical=True),
        device=device,
        folder=work,
        progress=SILENT,
    )
    masks = fitted.teacher.model_copy(update={"masks": "seeds"})
    maps = [first_masks(area, masks) for area in ground.areas]
    return training, Lesson(None, ground.with_maps(maps), SpotSet(()))


def candidates_of(training: Training, ground: Ground) -> int:
    """How many candidates a training batch holds."""
    with training.batches(ground, 0, SpotSet(())) as source:
        return len(source.batch(0).positions)


def report(training: Watched, turns: Turns) -> str:
    """What ran where, and how fast."""
    recipe, compute = training.recipe, training.compute
    sampling = recipe.sampling
    steps = BLOCK * len(turns.real)
    waited = training.sources[-1].waited / (steps + WARM_UP)
    workers = choose_workers(recipe.workers, compute.device.type)
    shape = f"{sampling.batch} x 3 x {sampling.tile_px} x {sampling.tile_px}"
    precision = "bf16 autocast" if compute.bf16 else "fp32"
    lines = [
        f"machine      {machine()}",
        f"device       {compute.device}, {torch.get_num_threads()} threads, load {load()}",
        f"network      {recipe.network.encoder}, {precision}, batch {shape}",
        f"workers      {workers}; waited for data {1000 * waited:.0f} ms a step",
        f"real step    {_each(turns.real)}",
    ]
    for name, blocks in turns.blocks.items():
        wall = [bare.wall / real.wall for real, bare in zip(turns.real, blocks, strict=True)]
        cpu = [bare.cpu / real.cpu for real, bare in zip(turns.real, blocks, strict=True)]
        lines += [
            f"bare step    {_each(blocks)}: {name}",
            f"  ratio      wall {_spread(wall)}; processor time of this process {_spread(cpu)}",
        ]
    return "\n".join(lines)


def _each(blocks: list[Spent]) -> str:
    wall = statistics.median(b.wall for b in blocks) / BLOCK
    cpu = statistics.median(b.cpu for b in blocks) / BLOCK
    return f"{1000 * wall:.0f} ms wall, {1000 * cpu:.0f} ms processor (medians)"


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def load() -> str:
    """Processes that wanted to run in the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def machine() -> str:
    """Model of the processor and those of its flags that decide how fast it multiplies."""
    info = Path("/proc/cpuinfo")
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if not info.is_file():
        return f"{platform.processor()}, {os.cpu_count()} cores"
    rows = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
    rows = {key.strip(): value.strip() for key, value in rows.items()}
    flags = [flag for flag in _FLAGS if flag in rows.get("flags", "").split()]
    return f"{rows.get('model name', platform.machine())}, {os.cpu_count()} cores, {' '.join(flags)}"


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="a folder that export wrote; default: a generated one")
    parser.add_argument("--recipe", default="standard")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--blocks", type=int, default=8, help=f"pairs of {BLOCK} steps")
    asked = parser.parse_args()
    recipe = load_recipe(asked.recipe)
    steps = WARM_UP + BLOCK * asked.blocks
    # Mining is no step: it is done twice in a training.
    student = recipe.student.model_copy(update={"steps": steps, "mine_at": ()})
    recipe = recipe.model_copy(update={"student": student, "workers": asked.workers})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dataset = asked.dataset
        if dataset is None:
            dataset = export_with_defaults(generate_project(folder / "project", count=9, size_px=640), SILENT)
        training, lesson = prepare(dataset, recipe, choose_device(asked.device), folder / "model")
        candidates = candidates_of(training, lesson.ground)
        turns = Turns(
            {
                "the UNet alone": bare_loop(training, 0),
                f"UNet and classifier ({candidates} candidates)": bare_loop(training, candidates),
            }
        )
        study(replace(training, progress=turns), lesson)
        click.echo(report(training, turns))


if __name__ == "__main__":
    main()
