"""Searching images on a Dask cluster: whole slides are tasks, and what they find is written from one place.

Workers reach images, model and project folder under the same paths. A worker that dies is replaced by the
cluster and its slide begun again, from the windows that the log in the project folder has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from midog_qupath.detection import Detection
from midog_qupath.errors import ClusterError, MidogError, ModelError
from midog_qupath.inference.adapt import Adapter, Look
from midog_qupath.inference.areas import Job
from midog_qupath.inference.device import choose_device
from midog_qupath.inference.resume import Unfinished
from midog_qupath.inference.search import LocalSearcher, look
from midog_qupath.inference.speed import Speed
from midog_qupath.models.bundle import Bundle, load_bundle
from midog_qupath.progress import SILENT, Progress

#: Name of the resource by which workers with a GPU offer it; where any does, each task takes one.
GPU = "GPU"


@dataclass(frozen=True)
class Order:
    """What a worker must know beside the job."""

    model: str
    model_sha256: str
    device: str
    speed: Speed
    batch: int | None
    threshold: float
    heatmaps: Path | None
    candidates: bool


@dataclass(frozen=True)
class ClusterSearcher:
    """On the workers of a scheduler, such as ``tcp://host:8786``."""

    address: str
    order: Order
    unfinished: Unfinished

    def looks(self, jobs: Sequence[Job], progress: Progress) -> Iterator[tuple[Job, Look | MidogError]]:
        """See :class:`midog_qupath.inference.search.Searcher`."""
        with progress.task("looking at the stain", len(jobs), "images") as advance:
            for job, made in self._each(_look, [(self.order, job) for job in jobs], jobs):
                if not isinstance(made, MidogError):
                    self.unfinished.look(job.entry, partial(_itself, made))
                yield job, made
                advance(1)

    def search(
        self, jobs: Sequence[Job], adapter: Adapter, progress: Progress
    ) -> Iterator[tuple[Job, list[Detection] | MidogError]]:
        """See :class:`midog_qupath.inference.search.Searcher`."""
        tasks = []
        for job in jobs:
            name = job.entry.entry_id
            measure = adapter.bundle_for(name).nuclei_log_odds
            tasks.append((self.order, job, adapter.looks[name], measure, self.unfinished.folder))
        with progress.task("searching", round(sum(job.mm2 for job in jobs), 3), "mm²") as advance:
            for job, found in self._each(_search, tasks, jobs):
                yield job, found
                advance(job.mm2)

    def _each(
        self, function: Any, tasks: Sequence[tuple[Any, ...]], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Any]]:
        """Results in the order of the jobs, each as soon as it and those before are there."""
        from distributed import Client
        from distributed.scheduler import KilledWorker

        try:
            client = Client(self.address, timeout=20)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"There is no Dask scheduler at {self.address} ({error}).",
                "Start one with `dask scheduler`, or leave out --scheduler.",
            ) from error
        with client:
            resources = {GPU: 1} if _has_gpus(client.scheduler_info(n_workers=-1)) else None
            futures = [client.submit(function, *task, pure=False, resources=resources) for task in tasks]
            for job, future in zip(jobs, futures, strict=True):
                try:
                    yield job, future.result()
                except KilledWorker as error:
                    yield (
                        job,
                        ClusterError(f"{job.entry.name}: its workers died ({error}).", "See their logs."),
                    )


def _itself(look: Look) -> Look:
    return look


def _has_gpus(info: Mapping[str, Any]) -> bool:
    return any(GPU in worker.get("resources", {}) for worker in info["workers"].values())


def _look(order: Order, job: Job) -> Look | MidogError:
    try:
        return look(_bundle(order), job)
    except MidogError as error:
        return error


def _search(
    order: Order, job: Job, seen: Look, nuclei_log_odds: float, unfinished: Path | None
) -> list[Detection] | MidogError:
    try:
        bundle = _bundle(order)
        runtime = order.speed.runtime(bundle, order.batch)
    except MidogError as error:
        return error
    adapter = _Known(bundle, {job.entry.entry_id: seen}, {job.entry.entry_id: ""}, nuclei_log_odds)
    log = Unfinished(unfinished, lambda message: None)
    searcher = LocalSearcher(bundle, runtime, order.threshold, log, order.heatmaps, order.candidates)
    ((_, found),) = searcher.search([job], adapter, SILENT)
    return found


@dataclass(frozen=True)
class _Known(Adapter):
    """The measure of nuclei is that of all images of the domain, which only the sender knows."""

    nuclei_log_odds: float

    def bundle_for(self, image: str) -> Bundle:
        """See :class:`Adapter`."""
        return replace(super().bundle_for(image), nuclei_log_odds=self.nuclei_log_odds)


def _bundle(order: Order) -> Bundle:
    bundle = _load(order.model, choose_device(order.device))
    if bundle.sha256 != order.model_sha256:
        raise ModelError(f"{order.model} is another model on a worker.", "Put the same file there.")
    return bundle


@lru_cache(maxsize=1)
def _load(path: str, device: str) -> Bundle:
    return load_bundle(Path(path), device)
