"""``report``: one HTML file about a run or a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import midog_qupath
from midog_qupath import files
from midog_qupath.learning.runlog import read_log
from midog_qupath.progress import Progress
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.report.card import card_html, model_facts, settings
from midog_qupath.report.charts import training_charts
from midog_qupath.report.crops import CROP_UM, crops_of
from midog_qupath.report.figures import charts_of, run_facts, summary
from midog_qupath.report.gather import Material, ReportOptions, gather
from midog_qupath.report.hotspots import Hotspots, hotspots
from midog_qupath.report.page import Page, Shown, render
from midog_qupath.report.spots import Gallery, by_class, spread
from midog_qupath.report.subject import Subject
from midog_qupath.report.tables import detections_table, images_table, saved_evaluations


@dataclass(frozen=True)
class ReportResult:
    """What was written: ``pictures`` in it, ``left_out`` places without one, ``notes`` as on the page."""

    path: Path
    size_bytes: int
    detections: int
    pictures: int
    left_out: int
    measured: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Galleries:
    """Galleries with their pictures; ``notes``: images of which there are none, and why."""

    found: tuple[Shown, ...]
    errors: tuple[Shown, ...]
    notes: tuple[str, ...]


def make_report(
    subject: Subject, store: ProjectStore | None, out: Path, options: ReportOptions, progress: Progress
) -> ReportResult:
    """Write the report on a run or a model as one HTML file, whole or not at all.

    Ground truth that is not there, an image or a model that is gone cost their part of the report and are
    said in it.

    Parameters
    ----------
    subject
        What it is about.
    store
        Reads the project's objects; None where there is no project.
    out
        The HTML file.

    Raises
    ------
    MidogError
        If the project, its record or the model cannot be read.
    """
    material = gather(subject, store, options, progress)
    galleries = _galleries(material, options.crops, progress)
    counted = None
    if subject.run is not None and subject.project is not None and store is not None:
        counted = hotspots(subject.project, store, options.class_map, options.mpp, progress)
    page = _page(material, galleries, counted)
    html = render(page).encode()
    files.write_bytes(out, html)
    shown = (*galleries.found, *galleries.errors)
    return ReportResult(
        path=out,
        size_bytes=len(html),
        detections=len(material.found.all()),
        pictures=sum(len(one.pictures) for one in shown),
        left_out=sum(one.left_out for one in shown),
        measured=material.measured is not None,
        notes=page.notes,
    )


def _page(material: Material, galleries: _Galleries, counted: Hotspots | None) -> Page:
    subject, card = material.subject, material.card
    model = subject.model
    recorded = {image.entry_id: image.name for image in subject.run.images} if subject.run else {}
    return Page(
        title=f"midog-qupath: {subject.name}",
        subtitle=str(subject.project.path if subject.project else model),
        summary=summary(material),
        notes=(*material.notes, *galleries.notes),
        images=images_table(material),
        detections=detections_table(material),
        galleries=galleries.found,
        errors=galleries.errors,
        hotspots=counted,
        charts=charts_of(material),
        training=training_charts(read_log(model.parent / "log.csv")) if model else (),
        facts=model_facts(card, files.sha256(model)) if card and model else (),
        run=run_facts(subject.run) if subject.run else (),
        settings=tuple(settings(card.recipe)) if card else (),
        card=card_html(model) if model else None,
        names={**recorded, **{entry_id: entry.name for entry_id, entry in material.entries.items()}},
        made=f"Made by midog-qupath {midog_qupath.__version__} on {datetime.now():%Y-%m-%d %H:%M}.",
        crop_um=CROP_UM,
        saved=saved_evaluations(model.parent) if model and material.measured is None else (),
    )


def _galleries(material: Material, most: int, progress: Progress) -> _Galleries:
    plain = by_class(material.found.all())
    wrong = material.measured.galleries() if material.measured else ()
    wanted = [(gallery, index) for gallery in (*plain, *wrong) for index in spread(len(gallery.spots), most)]
    spots = [gallery.spots[index] for gallery, index in wanted]
    pictures, failed = crops_of(spots, material.entries, material.mpp, progress)
    made: dict[str, dict[int, str]] = {gallery.key: {} for gallery in (*plain, *wrong)}
    for (gallery, index), picture in zip(wanted, pictures, strict=True):
        if picture is not None:
            made[gallery.key][index] = picture
    return _Galleries(
        _shown(plain, made),
        _shown(wrong, made),
        tuple(f"No pictures: {why}" for why in failed.values()),
    )


def _shown(galleries: Sequence[Gallery], made: dict[str, dict[int, str]]) -> tuple[Shown, ...]:
    return tuple(Shown(gallery, made[gallery.key]) for gallery in galleries)


def default_path(subject: Subject) -> Path:
    """Where a report is written unless the user says otherwise: beside what it is about."""
    return subject.folder / "report.html"
