"""Searching the images of a run one after another, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from midog_qupath.dataset.areas import working_downsample
from midog_qupath.detection import Detection
from midog_qupath.errors import MidogError, SlideError
from midog_qupath.inference.adapt import Adapter, Look, look_at
from midog_qupath.inference.areas import Job
from midog_qupath.inference.detect import Runtime, detect
from midog_qupath.inference.forward import CANDIDATE_FLOOR
from midog_qupath.inference.heatmap import HeatMap
from midog_qupath.inference.resume import Unfinished
from midog_qupath.models.bundle import Bundle
from midog_qupath.progress import Progress
from midog_qupath.project.disk import writing
from midog_qupath.slides.check import open_entry


class Searcher(Protocol):
    """Does the two things that take long, image by image; an image that fails gives its error instead."""

    def looks(self, jobs: Sequence[Job], progress: Progress) -> Iterator[tuple[Job, Look | MidogError]]:
        """What the model sees when it gets used to each image."""
        ...

    def search(
        self, jobs: Sequence[Job], adapter: Adapter, progress: Progress
    ) -> Iterator[tuple[Job, list[Detection] | MidogError]]:
        """Detections of each image."""
        ...


@dataclass(frozen=True)
class LocalSearcher:
    """In this process.

    ``heatmaps``: folder for probability maps, None for none. ``candidates``: also those below the threshold.
    """

    bundle: Bundle
    runtime: Runtime
    threshold: float
    unfinished: Unfinished
    heatmaps: Path | None = None
    candidates: bool = False

    def looks(self, jobs: Sequence[Job], progress: Progress) -> Iterator[tuple[Job, Look | MidogError]]:
        """See :class:`Searcher`."""
        with progress.task("looking at the stain", len(jobs), "images") as advance:
            for job in jobs:
                with self.runtime.stages.stage("getting used to the stain"):
                    made = self._look(job)
                yield job, made
                advance(1)

    def _look(self, job: Job) -> Look | MidogError:
        try:
            return self.unfinished.look(job.entry, lambda: look(self.bundle, job))
        except (SlideError, OSError) as error:
            return as_slide_error(job, error)

    def search(
        self, jobs: Sequence[Job], adapter: Adapter, progress: Progress
    ) -> Iterator[tuple[Job, list[Detection] | MidogError]]:
        """See :class:`Searcher`."""
        total = round(sum(job.mm2 for job in jobs), 3)
        with progress.task("searching", total, "mm²") as advance, self.runtime.readers:
            for job in jobs:
                told = 0.0

                def tell(share: float, mm2: float = job.mm2) -> None:
                    nonlocal told
                    told += share
                    advance(share * mm2)

                try:
                    bundle = adapter.bundle_for(job.entry.entry_id)
                    with open_entry(job.entry) as slide:
                        heatmap = self._heatmap(job, (slide.width, slide.height))
                        found = detect(
                            slide,
                            job.pixel.mpp,
                            bundle,
                            job.searched,
                            minimum_probability=self._lowest(bundle),
                            cell_px=job.cell_px,
                            runtime=self.runtime,
                            memory=self.unfinished.image(job.entry),
                            heatmap=heatmap,
                            advance=tell,
                        )
                    self._write(job, heatmap)
                    yield job, found
                except (SlideError, OSError) as error:
                    yield job, as_slide_error(job, error)
                    tell(1 - told)

    def _lowest(self, bundle: Bundle) -> float:
        if not self.candidates:
            return self.threshold
        return min(self.threshold, bundle.calibrated_mitosis(CANDIDATE_FLOOR))

    def _heatmap(self, job: Job, size: tuple[int, int]) -> HeatMap | None:
        if self.heatmaps is None or self.unfinished.folder is None:
            return None
        downsample = working_downsample(job.pixel.mpp)
        scratch = self.unfinished.folder / f"{job.entry.entry_id}.heat"
        working = (size[0] / downsample, size[1] / downsample)
        return HeatMap(scratch, working, self.bundle.card.stride)

    def _write(self, job: Job, heatmap: HeatMap | None) -> None:
        if heatmap is None or self.heatmaps is None:
            return
        pixel_um = job.pixel.mpp * working_downsample(job.pixel.mpp) * self.bundle.card.stride
        path = self.heatmaps / f"{job.entry.stem}.heatmap.ome.tif"
        with self.runtime.stages.stage("writing heat maps"), writing(path):
            heatmap.write(path, pixel_um)


def look(bundle: Bundle, job: Job) -> Look:
    """Get used to the image of a job."""
    with open_entry(job.entry) as slide:
        return look_at(bundle, slide, job.pixel.mpp, job.cell_px, job.tissue)


def as_slide_error(job: Job, error: MidogError | OSError) -> MidogError:
    """An error of one image, in words that name it."""
    if isinstance(error, MidogError):
        return error
    return SlideError(
        f"{job.entry.name} cannot be read: {error.strerror or error}.",
        "See whether its disk is still there, and run the command again.",
    )
