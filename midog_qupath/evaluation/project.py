"""``evaluate`` on a project: which model or run, which cases it has seen, where the result is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from midog_qupath import files
from midog_qupath.errors import EvaluationError
from midog_qupath.evaluation.evaluate import evaluate
from midog_qupath.evaluation.predictors import ModelPredictor, Predictor, RunPredictor
from midog_qupath.evaluation.result import EvaluationResult
from midog_qupath.evaluation.truth import Truth, collect_truth
from midog_qupath.models.bundle import BundleCard, load_bundle, read_card
from midog_qupath.models.find import model_of_run
from midog_qupath.progress import Progress
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.manifest import RunManifest, load_manifests
from midog_qupath.project.model import Project
from midog_qupath.project.select import select_images
from midog_qupath.project.stores.base import ProjectStore


@dataclass(frozen=True)
class EvaluateOptions:
    """What to measure on.

    ``images``: name patterns, none for all. ``all_cases``: also those that the model has seen.
    ``threshold``: mitosis probability instead of the model's or run's own. ``mpp``: microns per pixel of
    images whose pixel size nobody knows.
    """

    images: Sequence[str] = ()
    class_map: ClassMap = field(default_factory=ClassMap)
    ground_truth: Path | None = None
    all_cases: bool = False
    threshold: float | None = None
    mpp: float | None = None


def evaluate_model(
    project: Project,
    store: ProjectStore,
    model: Path,
    device: str,
    options: EvaluateOptions,
    progress: Progress,
) -> EvaluationResult:
    """Run a model on the labelled ground of a project and measure it; saved beside the model.

    Raises
    ------
    EvaluationError
        If there is nothing to measure; other MidogErrors where project or model cannot be read.
    """
    bundle = load_bundle(model, device)
    truth = _truth(project, store, bundle.card, options)
    threshold = bundle.card.threshold if options.threshold is None else options.threshold
    predictor = ModelPredictor.used_to(bundle, truth.images, threshold, options.mpp, progress)
    result = _measure(truth, predictor, f"model {model}", threshold, options, progress)
    _save(model.parent, project, result, progress)
    return result


def evaluate_run(
    project: Project, store: ProjectStore, run: str, options: EvaluateOptions, progress: Progress
) -> EvaluationResult:
    """Measure the detections of a run (its id, or a folder of GeoJSON); saved beside those of a run.

    Raises
    ------
    EvaluationError
        If there is no such run, its model is gone (so that nobody knows which cases it has seen), or
        there is nothing to measure.
    """
    folder, manifest = find_run(project, run)
    card = None
    if manifest is None:
        progress.note(f"{folder} is of no run of this project: which cases its model has seen is not known.")
    elif not options.all_cases:
        card = _card_of(project, manifest)
    truth = _of_run(_truth(project, store, card, options), folder, progress)
    predictor = RunPredictor(folder, options.class_map, options.threshold, options.mpp)
    # What a run left out by its own threshold cannot come back.
    limits = [options.threshold, manifest.threshold if manifest else None]
    threshold = max((limit for limit in limits if limit is not None), default=None)
    result = _measure(truth, predictor, f"detections {folder}", threshold, options, progress)
    if manifest is not None:
        _save(folder, project, result, progress)
    return result


def find_run(project: Project, run: str) -> tuple[Path, RunManifest | None]:
    """Folder of a run's GeoJSON files, and its manifest (None for a folder that is no run's).

    Raises
    ------
    EvaluationError
        If there is neither a run nor a folder of that name.
    """
    of_run, given = project.ours / "detections" / run, Path(run)
    folder = of_run if of_run.is_dir() else given
    if not folder.is_dir():
        known = ", ".join(manifest.run for manifest in load_manifests(project)) or "none"
        raise EvaluationError(
            f"There is no run and no folder {run}.", f"Give a run of this project ({known}) or a folder."
        )
    manifests = {manifest.run: manifest for manifest in load_manifests(project)}
    inside = folder.resolve().parent == (project.ours / "detections").resolve()
    return folder, manifests.get(folder.resolve().name) if inside else None


def _of_run(truth: Truth, folder: Path, progress: Progress) -> Truth:
    images = tuple(i for i in truth.images if (folder / f"{i.entry.stem}.geojson").is_file())
    absent = len(truth.images) - len(images)
    if absent and not images:
        raise EvaluationError(
            f"None of the labelled images is in {folder}.", "Annotate them, or give another run."
        )
    if absent:
        progress.note(f"Not measured, because the run did not search them: {absent} labelled images.")
    return replace(truth, images=images)


def _card_of(project: Project, manifest: RunManifest) -> BundleCard:
    model = model_of_run(project, manifest.model, manifest.model_sha256)
    if model is not None:
        return read_card(model)
    raise EvaluationError(
        f"The model of run {manifest.run} ({manifest.model}) is gone: which cases it has seen is not known.",
        "Put it back, or give --all for figures that may be in-sample.",
    )


def _truth(project: Project, store: ProjectStore, card: BundleCard | None, options: EvaluateOptions) -> Truth:
    seen = frozenset[str]()
    if card is not None and not options.all_cases:
        seen = frozenset((*card.trained_cases, *card.tuned_cases))
    entries = select_images(project, options.images)
    return collect_truth(project, entries, store, options.class_map, options.ground_truth, seen)


def _measure(
    truth: Truth,
    predictor: Predictor,
    source: str,
    threshold: float | None,
    options: EvaluateOptions,
    progress: Progress,
) -> EvaluationResult:
    if truth.left_out:
        progress.note(f"Left out, because the model has seen them: {len(truth.left_out)} cases.")
    return evaluate(
        truth,
        predictor,
        source=source,
        threshold=threshold,
        in_sample=options.all_cases,
        progress=progress,
    )


def _save(folder: Path, project: Project, result: EvaluationResult, progress: Progress) -> None:
    # One file for each project and kind: a model is measured on several.
    kind = "-in-sample" if result.in_sample else ""
    path = folder / f"evaluation-{project.folder.name}{kind}.json"
    try:
        files.write_json(path, result.as_json())
    except OSError as error:
        progress.warn(f"The result was not kept: {path} cannot be written ({error.strerror}).")
