"""What is known of a run or a model: its card, its detections, its figures where there is ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from midog_qupath.errors import EvaluationError, MidogError
from midog_qupath.evaluation.evaluate import evaluate
from midog_qupath.evaluation.predictors import ModelPredictor, Predictor, RunPredictor
from midog_qupath.evaluation.truth import Truth, collect_truth
from midog_qupath.models.bundle import BundleCard, load_bundle, read_card
from midog_qupath.progress import Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.manifest import RunManifest
from midog_qupath.project.model import ImageEntry, Project
from midog_qupath.project.ours import Standing, ours_state
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.report.measure import Measured, Recorder, measured_places
from midog_qupath.report.spots import RunDetections, read_run
from midog_qupath.report.subject import Subject
from midog_qupath.units import MicronsPerPixel
from midog_qupath.wording import counted


@dataclass(frozen=True)
class ReportOptions:
    """How to make a report.

    ``crops``: most pictures a gallery. ``all_cases``: measure on cases that the model has seen too.
    ``ground_truth``: folder of GeoJSON files instead of the project's annotations. ``mpp``: microns per
    pixel of images whose pixel size nobody knows. ``device``: where a model runs.
    """

    class_map: ClassMap = field(default_factory=ClassMap)
    crops: int = 240
    all_cases: bool = False
    ground_truth: Path | None = None
    mpp: float | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Material:
    """All that a page is made of.

    ``card``: of the model, None where it is gone. ``found``: by a run, empty for a model. ``reviewed``:
    detections of the run that a person changed or marked, by the id of the image; None where nobody could
    look. ``notes``: what is missing and why.
    """

    subject: Subject
    card: BundleCard | None
    found: RunDetections
    reviewed: dict[str, int] | None
    measured: Measured | None
    notes: tuple[str, ...]

    @property
    def entries(self) -> dict[str, ImageEntry]:
        """The project's images by their ids."""
        project = self.subject.project
        return {entry.entry_id: entry for entry in project.images} if project else {}

    @property
    def mpp(self) -> dict[str, MicronsPerPixel]:
        """Microns per slide pixel by the id of the image."""
        sizes = dict(self.measured.mpp) if self.measured else {}
        run = self.subject.run
        recorded = {image.entry_id: MicronsPerPixel(image.mpp) for image in run.images} if run else {}
        return {**sizes, **recorded}

    @property
    def threshold(self) -> float:
        """Mitosis probability from which a candidate is a detection."""
        if self.subject.run is not None:
            return self.subject.run.threshold
        return self.card.threshold if self.card else 0.5


def gather(
    subject: Subject, store: ProjectStore | None, options: ReportOptions, progress: Progress
) -> Material:
    """Read and measure all there is.

    Ground truth that is not there and a model that is gone cost their part of the report and are noted.

    Parameters
    ----------
    subject
        A run or a model.
    store
        Reads the project's objects; None where there is no project.

    Raises
    ------
    MidogError
        If the project, its record or the model cannot be read.
    """
    notes: list[str] = []
    card = read_card(subject.model) if subject.model else None
    found = RunDetections({}, {}, ())
    reviewed: dict[str, int] | None = None
    if subject.run is not None and subject.project is not None:
        if card is None:
            notes.append(f"The model of the run ({subject.run.model}) is gone: nothing is known of it.")
        found = read_run(subject.project, subject.run, options.class_map)
        notes += [f"{name}: the file of its detections is gone or broken." for name in found.lost]
        reviewed = _reviewed(subject.project, subject.run, store, notes)
    measured = _measure(subject, store, card, found, options, notes, progress)
    return Material(subject, card, found, reviewed, measured, (*_warnings(measured), *notes))


def _reviewed(
    project: Project, run: RunManifest, store: ProjectStore | None, notes: list[str]
) -> dict[str, int] | None:
    """How many detections of a run a person changed or marked."""
    if store is None:
        return None
    standing = ours_state(project)
    counts: dict[str, int] = {}
    for entry in project.images:
        record = run.image(entry.entry_id)
        if record is None:
            continue
        written = {thing.id for thing in record.objects}
        try:
            things = store.read(entry)
        except MidogError as error:
            notes.append(f"{entry.name}: who reviewed what is not known. {error}")
            continue
        touched = [thing for thing in things if thing.id in written and standing(thing) is Standing.TOUCHED]
        counts[entry.entry_id] = len(touched)
    return counts


def _measure(
    subject: Subject,
    store: ProjectStore | None,
    card: BundleCard | None,
    found: RunDetections,
    options: ReportOptions,
    notes: list[str],
    progress: Progress,
) -> Measured | None:
    if subject.project is None or store is None:
        notes.append("Not measured: the model lies in no project (--project names one).")
        return None
    if card is None and not options.all_cases:
        notes.append("Not measured: which cases its model has seen is not known (--all measures on all).")
        return None
    try:
        truth = _truth(subject.project, store, card, options)
        if subject.run is not None:
            folder = subject.project.ours / "detections" / subject.run.run
            searched = tuple(i for i in truth.images if i.entry.entry_id in found.spots)
            runs = RunPredictor(folder, options.class_map, None, options.mpp)
            truth = replace(truth, images=searched)
            return _places(truth, runs, subject.run.threshold, subject, found, options, progress)
        assert subject.model is not None
        bundle = load_bundle(subject.model, options.device)
        threshold = bundle.card.threshold
        models = ModelPredictor.used_to(bundle, truth.images, threshold, options.mpp, progress)
        return _places(truth, models, threshold, subject, found, options, progress)
    except EvaluationError as error:
        notes.append(f"Not measured: {error}")
        return None


def _truth(project: Project, store: ProjectStore, card: BundleCard | None, options: ReportOptions) -> Truth:
    seen = frozenset[str]()
    if card is not None and not options.all_cases:
        seen = frozenset((*card.trained_cases, *card.tuned_cases))
    return collect_truth(project, project.images, store, options.class_map, options.ground_truth, seen)


def _places(
    truth: Truth,
    predictor: Predictor,
    threshold: float,
    subject: Subject,
    found: RunDetections,
    options: ReportOptions,
    progress: Progress,
) -> Measured:
    recorder = Recorder(predictor)
    result = evaluate(
        truth,
        recorder,
        source=subject.name,
        threshold=threshold,
        in_sample=options.all_cases,
        progress=progress,
    )
    return measured_places(result, recorder.seen, found.spots)


def _warnings(measured: Measured | None) -> list[str]:
    if measured is None:
        return []
    result = measured.result
    warnings = [f"{name}: {error}" for name, error in result.skipped.items()]
    if result.left_out_cases:
        warnings.insert(
            0, f"Not in the figures: {counted(len(result.left_out_cases), 'case')} that the model has seen."
        )
    if result.in_sample:
        warnings.insert(0, "IN-SAMPLE: the figures include cases that the model was trained or tuned on.")
    return warnings
