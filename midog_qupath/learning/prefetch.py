"""Batches made ahead by worker processes, so that the network never waits for its data."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import cv2
from torch.utils.data import DataLoader, Dataset

from midog_qupath.learning.ground import SpotSet
from midog_qupath.learning.tiles import Batch, TileSource

#: More workers than this have never been needed to keep one device busy.
_MOST = 8
#: Longer than any training: a worker makes batches until it is told to stop.
_LAST_STEP = 1 << 40


def choose_workers(asked: int | None, device: str, processes: int = 1) -> int:
    """Worker processes of each training process; None: as many as the device and the cores call for.

    ``processes``: trainings on this machine, which share its cores.
    """
    if asked is not None:
        return asked
    if "fork" not in multiprocessing.get_all_start_methods():
        # There every worker would need its own copy of the data.
        return 0
    cores = (os.cpu_count() or 1) // processes
    return max(1, min(_MOST, cores - 1)) if device.startswith("cuda") else 0


@dataclass(frozen=True)
class _Steps(Dataset[Batch]):
    source: TileSource

    def __getitem__(self, step: int) -> Batch:
        return self.source.batch(step)


class Prefetch:
    """The batches of a source, which ``workers`` processes make ahead; 0: made when asked for.

    A batch is the source's own of that step, whoever makes it and however it was asked for.
    """

    def __init__(self, source: TileSource, workers: int) -> None:
        self.source = source
        #: Seconds that whoever asked for batches has waited for them.
        self.waited = 0.0
        self._workers = workers
        self._batches: Iterator[Batch] | None = None
        self._next = -1

    def __enter__(self) -> Prefetch:
        """The workers start with the first batch."""
        # On tiles as small as these, sharing the work among threads takes longer than the work.
        self._threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers."""
        self._batches = None
        cv2.setNumThreads(self._threads)

    def batch(self, step: int) -> Batch:
        """The batch of a step; quick where it is the one after the last."""
        asked = time.perf_counter()
        batch = self._ahead(step) if self._workers else self.source.batch(step)
        self.waited += time.perf_counter() - asked
        return batch

    def mine(self, mined: SpotSet) -> None:
        """From now on draw these mined look-alikes."""
        self.source = replace(self.source, mined=mined)
        self._batches = None

    def _ahead(self, step: int) -> Batch:
        if self._batches is None or step != self._next:
            self._batches = self._start(step)
        self._next = step + 1
        return next(self._batches)

    def _start(self, step: int) -> Iterator[Batch]:
        fork = "fork" in multiprocessing.get_all_start_methods()
        loader = DataLoader(
            _Steps(self.source),
            batch_size=None,
            sampler=range(step, _LAST_STEP),
            num_workers=self._workers,
            worker_init_fn=_quiet,
            # A forked worker sees the data without a copy.
            multiprocessing_context="fork" if fork else None,
        )
        return iter(loader)


def _quiet(worker: int) -> None:
    # Ctrl-C reaches all processes of a terminal: the training itself ends the step and then its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # OpenCV's threads do not survive a fork, and one worker has one core.
    cv2.setNumThreads(0)
