"""``evaluate`` on a project: which model or run, which cases it has seen, where the result is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from midog_qupath import files
from midog_qupath.errors import EvaluationError
from midog_qupath.evaluation.challenge import ChallengePredictor, is_challenge
from midog_qupath.evaluation.evaluate import evaluate
from midog_qupath.evaluation.predictors import ModelPredictor, Predictor, RunPredictor
from midog_qupath.evaluation.result import Comparison, EvaluationResult
from midog_qupath.evaluation.summary import compare
from midog_qupath.evaluation.truth import Truth, collect_truth
from midog_qupath.models.bundle import BundleCard, load_bundle, read_card
from midog_qupath.models.find import model_of_run, released_model
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
    """Run a model on the labelled ground of a project and measure it.

    Saved beside the model; for the released one, whose folder is not the user's, in ``evaluations/`` of ours.

    Raises
    ------
    EvaluationError
        If there is nothing to measure; other MidogErrors where project or model cannot be read.
    """
    bundle = load_bundle(model, device)
    truth = _truth(project, store, [bundle.card], options)
    threshold = bundle.card.threshold if options.threshold is None else options.threshold
    predictor = ModelPredictor.used_to(bundle, truth.images, threshold, options.mpp, progress)
    result = _measure(truth, predictor, f"model {model}", threshold, options, progress)
    folder = project.ours / "evaluations" if model == released_model() else model.parent
    _save(folder, project, result, progress)
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
    found = _find(project, run, options, progress)
    truth = _of_run(_truth(project, store, [found.card], options), found, progress)
    result = _measure_run(truth, found, options, progress)
    if found.manifest is not None:
        _save(found.path, project, result, progress)
    return result


def compare_runs(
    project: Project,
    store: ProjectStore,
    run: str,
    against: str,
    options: EvaluateOptions,
    progress: Progress,
) -> tuple[EvaluationResult, EvaluationResult, Comparison]:
    """Measure two runs on the images that both searched and no case that either's model has seen.

    Raises
    ------
    EvaluationError
        As :func:`evaluate_run`, and if no image is left that both could be measured on.
    """
    new, old = (_find(project, name, options, progress) for name in (run, against))
    truth = _truth(project, store, [new.card, old.card], options)
    truth = _of_run(_of_run(truth, new, progress), old, progress)
    results = [_measure_run(truth, one, options, progress) for one in (new, old)]
    # What one of both cannot do is left out of both.
    skipped = results[0].skipped.keys() | results[1].skipped.keys()
    if skipped:
        truth = replace(truth, images=tuple(i for i in truth.images if i.entry.name not in skipped))
        reasons = {**results[1].skipped, **results[0].skipped}
        results = [
            replace(_measure_run(truth, one, options, progress), skipped=reasons) for one in (new, old)
        ]
    return results[0], results[1], compare(results[0].images, results[1].images)


@dataclass(frozen=True)
class _Run:
    """Detections to measure: where they lie, the run's manifest and its model's card if they are known."""

    path: Path
    manifest: RunManifest | None
    card: BundleCard | None
    predictor: RunPredictor | ChallengePredictor


def _find(project: Project, run: str, options: EvaluateOptions, progress: Progress) -> _Run:
    path, manifest = find_run(project, run)
    if manifest is None:
        progress.note(f"{path} is of no run of this project: which cases its model has seen is not known.")
    card = _card_of(project, manifest) if manifest is not None and not options.all_cases else None
    if is_challenge(path):
        if options.threshold is not None:
            raise EvaluationError(
                f"{path} says itself which points are above its threshold.", "Leave --threshold out."
            )
        return _Run(path, manifest, card, ChallengePredictor(path, options.mpp))
    if path.is_file():
        raise EvaluationError(f"{path} is no file of the MIDOG challenge.", "Give a .json file or a folder.")
    return _Run(path, manifest, card, RunPredictor(path, options.class_map, options.threshold, options.mpp))


def _measure_run(truth: Truth, run: _Run, options: EvaluateOptions, progress: Progress) -> EvaluationResult:
    # What a run left out by its own threshold cannot come back.
    limits = [options.threshold, run.manifest.threshold if run.manifest else None]
    threshold = max((limit for limit in limits if limit is not None), default=None)
    return _measure(truth, run.predictor, f"detections {run.path}", threshold, options, progress)


def find_run(project: Project, run: str) -> tuple[Path, RunManifest | None]:
    """Folder of a run's GeoJSON files, and its manifest (None for a folder or file that is no run's).

    Raises
    ------
    EvaluationError
        If there is neither a run nor a folder or file of that name.
    """
    of_run, given = project.ours / "detections" / run, Path(run)
    folder = of_run if of_run.is_dir() else given
    manifests = {manifest.run: manifest for manifest in load_manifests(project)}
    if not folder.exists():
        known = ", ".join(manifests) or "none"
        raise EvaluationError(
            f"There is no run and no folder {run}.", f"Give a run of this project ({known}) or a folder."
        )
    inside = folder.resolve().parent == (project.ours / "detections").resolve()
    return folder, manifests.get(folder.resolve().name) if inside else None


def _of_run(truth: Truth, run: _Run, progress: Progress) -> Truth:
    if run.path.is_file() and len(truth.images) > 1:
        raise EvaluationError(
            f"{run.path} is of one image, and {len(truth.images)} are labelled.",
            "Name the image by --image, or give a folder with one file an image.",
        )
    images = tuple(image for image in truth.images if run.predictor.has(image))
    absent = len(truth.images) - len(images)
    if absent and not images:
        raise EvaluationError(
            f"None of the labelled images is in {run.path}.", "Annotate them, or give another run."
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


def _truth(
    project: Project, store: ProjectStore, cards: Sequence[BundleCard | None], options: EvaluateOptions
) -> Truth:
    known = [card for card in cards if card is not None and not options.all_cases]
    seen = frozenset(case for card in known for case in (*card.trained_cases, *card.tuned_cases))
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
