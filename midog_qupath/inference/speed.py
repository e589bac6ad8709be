"""How fast an image is to be searched, as a user says it, and what runs then."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from midog_qupath.inference.detect import Runtime, Tiling
from midog_qupath.inference.device import network_device
from midog_qupath.inference.heap import Heap
from midog_qupath.inference.profile import Stages
from midog_qupath.inference.read import Pixels
from midog_qupath.inference.readers import ReaderPool
from midog_qupath.inference.segment import (
    Precision,
    Segmenter,
    TorchSegmenter,
    choose_precision,
    out_of_memory,
)
from midog_qupath.models.bundle import Bundle

#: Batch sizes that are tried, on a CPU and elsewhere. What a window takes of memory grows with them, and on a
#: CPU more than 4 wins nothing: 9 would take half a gigabyte more, if only for the trial.
_TRIED_CPU, _TRIED = (2, 4), (4, 9, 16, 25)
#: Less than so many working pixels are searched before a trial has paid.
PROBE_PX = 500_000_000
_FLIPS = 4


@dataclass(frozen=True)
class Speed:
    """Options that change how long a search takes; none but ``tta`` is meant to change what it finds.

    ``precision``: fp32, bf16, fp16, or auto. ``tta``: average over four orientations. ``workers``: reader
    processes, None for as many as suit the machine. ``batch``: squares of 1024 x 1024 pixels that are seen
    at once, None to find out. ``compiled``: a file that ``midog-qupath compile`` wrote. ``compile``: torch
    makes machine code of the network first.
    """

    precision: str = "fp32"
    tta: bool = False
    workers: int | None = None
    batch: int | None = None
    compiled: Path | None = None
    compile: bool = False

    def segmenter(self, bundle: Bundle) -> Callable[[Bundle], Segmenter]:
        """What makes of each image's own model what is run."""
        if self.compiled is not None:
            from midog_qupath.inference.compiled import load_compiled

            return load_compiled(self.compiled, bundle, self.resolved(bundle))
        flips = _FLIPS if self.tta else 1
        make = partial(TorchSegmenter, precision=self.resolved(bundle), flips=flips, compiled=self.compile)
        if self.compile:
            # Now, so that a machine that cannot says so before the first image.
            make(bundle)
        return make

    def resolved(self, bundle: Bundle) -> Precision:
        """The precision that is computed in."""
        return choose_precision(self.precision, network_device(bundle).type)

    def runtime(self, bundle: Bundle, batch: int | None) -> Runtime:
        """Everything that runs. Close its readers after use."""
        return Runtime(
            self.segmenter(bundle),
            Tiling() if batch is None else Tiling.of_batch(batch),
            ReaderPool(default_workers() if self.workers is None else self.workers),
            Stages(),
        )


def default_workers() -> int:
    """Reader processes: one for two cores of a CPU, at most eight; none in a process that may start none."""
    if multiprocessing.current_process().daemon:
        return 0
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, count // 2))


def probe_batch(bundle: Bundle, make: Callable[[Bundle], Segmenter]) -> int:
    """The batch size with the least time a pixel of a window's core, from one look of each."""
    segmenter = make(bundle)
    tried = _TRIED_CPU if network_device(bundle).type == "cpu" else _TRIED
    best, fastest = tried[0], float("inf")
    for batch in tried:
        core = Tiling.of_batch(batch).core or 0
        side = (core + 2 * bundle.card.halo) // segmenter.reduce
        pixels = np.full((1, side, side, 3), 200, np.uint16 if segmenter.reduce > 1 else np.uint8)
        try:
            # What one size leaves free would be no use to the next.
            with Heap():
                times = [_seconds(segmenter, pixels) for _ in range(2)]
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            break
        if min(times) / core**2 < fastest:
            best, fastest = batch, min(times) / core**2
    return best


def _seconds(segmenter: Segmenter, pixels: Pixels) -> float:
    began = time.perf_counter()
    # The sum waits for the device.
    float(segmenter(pixels).probability.sum())
    return time.perf_counter() - began
