"""The mitotic count of a project: figures, tissue, the richest window, image by image."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import shapely
from shapely.geometry.base import BaseGeometry

from midog_qupath.counting.figures import Figure, counted_figures, inside, positions
from midog_qupath.counting.ground import allowed_ground
from midog_qupath.counting.hotspot import best_spot
from midog_qupath.counting.result import ImageCount, ProjectCount, Settings
from midog_qupath.counting.window import window_of
from midog_qupath.errors import MidogError, ProjectError, none_worked
from midog_qupath.inference.areas import cell_side, union_of_areas
from midog_qupath.progress import SILENT, Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.manifest import load_manifests, written_objects
from midog_qupath.project.model import ImageEntry, PathObject, Project
from midog_qupath.project.ours import Standing, standing
from midog_qupath.project.select import select_images
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.slides.tissue import HOLE_MM2, tissue_outline
from midog_qupath.units import MATCH_RADIUS, MicronsPerPixel, to_pixels
from midog_qupath.wording import counted

#: A hole larger than this share of the window is not tissue: otherwise a small window could lie in one.
_HOLE_SHARE = 0.05


@dataclass(frozen=True)
class CountOptions:
    """What to count and where.

    ``images``: name patterns, none for all. ``regions``: only inside annotations of this class.
    ``threshold``: mitosis probability from which an unreviewed detection counts (None: all that stand in the
    project). ``mpp``: microns per pixel of images whose pixel size nobody knows.
    """

    images: Sequence[str] = ()
    settings: Settings = field(default_factory=Settings)
    class_map: ClassMap = field(default_factory=ClassMap)
    regions: str | None = None
    threshold: float | None = None
    mpp: float | None = None


@dataclass(frozen=True)
class _Runs:
    """What manifests say: whose an object is, and whether the model of a run (by number) is calibrated."""

    standing: Callable[[PathObject], Standing]
    calibrated: Mapping[int, bool | None]


def count_project(
    project: Project, store: ProjectStore, options: CountOptions, progress: Progress = SILENT
) -> ProjectCount:
    """Count mitoses in the richest place of each image of a project; nothing is written.

    An image that cannot be read is reported and the others go on.

    Raises
    ------
    ProjectError
        If no image fits the patterns, or none has an area of the class that was asked for.
    MidogError
        If no image at all can be counted.
    """
    entries = select_images(project, options.images)
    manifests = load_manifests(project)
    written = written_objects(manifests)
    runs = _Runs(lambda item: standing(item, written), {m.number: m.calibrated for m in manifests})
    counts: list[ImageCount] = []
    skipped: dict[str, MidogError] = {}
    empty = 0
    with progress.task("counting", len(entries), "images") as advance:
        for entry in entries:
            try:
                counted = _count_entry(entry, store, runs, options)
            except MidogError as error:
                skipped[entry.name] = error
            else:
                empty += counted is None
                counts += [counted] if counted else []
            advance(1)
    _require_some(counts, skipped, empty, options, progress)
    return ProjectCount(_name(), options.settings, tuple(counts), skipped)


def counted_hole(area_mm2: float) -> float:
    """Up to which size (mm2) a hole in tissue, a lumen or fat, is tissue to a window of ``area_mm2``."""
    return min(HOLE_MM2, _HOLE_SHARE * area_mm2)


def _name() -> str:
    return f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _require_some(
    counts: Sequence[ImageCount],
    skipped: Mapping[str, MidogError],
    empty: int,
    options: CountOptions,
    progress: Progress,
) -> None:
    if empty and (counts or skipped):
        progress.note(f"Left alone, with nothing in them to be counted: {counted(empty, 'image')}.")
    if counts:
        return
    if skipped:
        raise none_worked(ProjectError, "counted", skipped)
    if options.regions is None:
        raise ProjectError("All images are mosaics: there is no tissue to count in.", "Choose others.")
    raise ProjectError(
        f"No image has an annotation of class {options.regions}.", "Draw one, save in QuPath, and run again."
    )


def _count_entry(
    entry: ImageEntry, store: ProjectStore, runs: _Runs, options: CountOptions
) -> ImageCount | None:
    if cell_side(entry) is not None:
        return None
    objects = store.read(entry)
    with open_entry(entry) as slide:
        mpp = resolve_mpp(entry, slide, options.mpp).mpp
        tissue = tissue_outline(slide, mpp, counted_hole(options.settings.area_mm2))
    if options.regions is not None:
        chosen = union_of_areas(objects, options.regions)
        if chosen.is_empty:
            return None
        tissue = shapely.intersection(shapely.make_valid(tissue), chosen)
    figures = counted_figures(
        objects, runs.standing, options.class_map, to_pixels(MATCH_RADIUS, mpp), options.threshold or 0.0
    )
    if options.regions is not None:
        figures = inside(figures, chosen)
    return count_figures(entry, figures, tissue, mpp, options.settings, runs.calibrated)


def count_figures(
    entry: ImageEntry,
    figures: Sequence[Figure],
    tissue: BaseGeometry,
    mpp: MicronsPerPixel,
    settings: Settings,
    calibrated: Mapping[int, bool | None],
) -> ImageCount:
    """The count of one image.

    Parameters
    ----------
    figures
        All that count, in slide pixels.
    tissue
        What of the image, or of the chosen annotations, is tissue, in slide pixels.
    calibrated
        Whether the model of a run is calibrated, by the run's number.
    """
    window = window_of(settings.area_mm2, settings.shape, mpp)
    ground = allowed_ground(tissue, window)
    spot = best_spot(positions(figures), window, ground) if ground is not None else None
    to_mm2 = (mpp / 1000) ** 2
    if spot is None:
        area, counted = tissue, inside(figures, tissue)
    else:
        area = window.polygon(spot.x, spot.y)
        seen = window.covers(positions(figures) - [spot.x, spot.y])
        counted = [figure for figure, yes in zip(figures, seen, strict=True) if yes]
    share = shapely.intersection(area, tissue).area / area.area if area.area else 0.0
    return ImageCount(
        entry=entry,
        settings=settings,
        mpp=mpp,
        window=window,
        spot=spot,
        area_mm2=settings.area_mm2 if spot else float(tissue.area) * to_mm2,
        tissue_share=float(share),
        searched_mm2=float(tissue.area) * to_mm2,
        figures=tuple(counted),
        in_all=len(figures),
        uncalibrated=_uncalibrated(counted, calibrated),
    )


def _uncalibrated(figures: Sequence[Figure], calibrated: Mapping[int, bool | None]) -> str | None:
    """In words, why nothing can be said of the unreviewed figures; None where it can."""
    open_ones = [figure for figure in figures if figure.word == "unreviewed"]
    if any(figure.probability is None for figure in open_ones):
        return "an unreviewed detection has no probability"
    said = {calibrated.get(figure.run) if figure.run is not None else None for figure in open_ones}
    if False in said:
        return "the model's probabilities are not calibrated"
    return "no record says whether the model is calibrated" if None in said else None
