"""Single runs: train, score the test cases, write the result; skipped when the result is there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

import midog_qupath
from midog_qupath import files
from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import DatasetError
from midog_qupath.learning.recipe import Recipe
from midog_qupath.learning.teach_only import TeachOptions, teach_in, teacher_settings
from midog_qupath.learning.train import TrainOptions, train
from midog_qupath.learning.versions import software_versions
from midog_qupath.learning.workfolder import WorkFolder
from midog_qupath.models.bundle import Bundle, OperatingPoint, load_bundle
from midog_qupath.progress import Progress
from training.experiments.bare_crop import bare_crop_opinion, train_bare_crop
from training.experiments.folds import OWN, Fold, apply_fold, folds_of
from training.experiments.plan import Experiment, Row
from training.experiments.records import RunKey, RunResult, TypeScores, digest, read_result, write_result
from training.experiments.scoring import ground_of, opinion_types, score_fields, student_types

#: Parts of a recipe that change no result.
NO_RESULT = {"name", "description", "checkpoint_seconds", "workers", "from_released"}
_CODE = ("learning", "models", "inference", "evaluation")


@dataclass(frozen=True)
class Start:
    """A model to begin with: its file, threshold, at which level of nuclei, and the digest of its run."""

    model: Path
    threshold: float
    nuclei_level: float
    sha256: str


@dataclass(frozen=True)
class Bench:
    """Where runs are made. ``work``: folder of models and candidates, outside the repository's history."""

    dataset: Dataset
    work: Path
    device: str
    progress: Progress


@dataclass(frozen=True)
class Run:
    """One run, not necessarily made yet. ``recipe`` has the run's seed; ``start`` as the row asks.

    ``before``: the run, of the same fold and seed, whose model this one trains further on its masks.
    """

    experiment: Experiment
    row: Row
    fold: Fold
    seed: int
    start: Start | None = None
    before: Run | None = None

    @property
    def recipe(self) -> Recipe:
        """The row's recipe with this run's seed."""
        return self.row.recipe.model_copy(update={"seed": self.seed})

    @property
    def key(self) -> RunKey:
        """Which run of which experiment."""
        return RunKey(experiment=self.experiment.name, row=self.row.name, fold=self.fold.name, seed=self.seed)

    @property
    def sha256(self) -> str:
        """Digest of everything but the data that decides the result."""
        decides = {
            "recipe": self.recipe.model_dump(mode="json", exclude=NO_RESULT),
            "learner": self.row.learner,
            "splits": dict(self.fold.splits),
            "start": self.start.sha256 if self.start else None,
        }
        return digest({**decides, "before": self.before.sha256} if self.before else decides)

    def folder(self, bench: Bench) -> Path:
        """The run's own folder; another recipe or other data has another."""
        mark = digest([self.sha256, bench.dataset.sha256])[:10]
        parts = (self.experiment.name, self.row.name, self.fold.name)
        return bench.work.joinpath(*map(_slug, parts), f"seed-{self.seed}-{mark}")

    def result(self, bench: Bench) -> RunResult | None:
        """The result of this very recipe on this very dataset, None if it is still to be made."""
        found = read_result(self.folder(bench) / "result.json")
        same = found and (found.recipe_sha256, found.dataset_sha256) == (self.sha256, bench.dataset.sha256)
        return found if same else None

    def model(self, bench: Bench) -> Path:
        """Where the run's model lies while it is kept."""
        return WorkFolder(self.folder(bench) / "train").model


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def runs_of(
    experiment: Experiment, dataset: Dataset, seeds: Sequence[int], start: Start | None = None
) -> Iterator[Run]:
    """All runs of an experiment, row by row; ``start`` for the rows that begin with that model."""
    for row in experiment.rows:
        begins = start if row.learner in ("fine-tune", "as-is") else None
        continued = experiment.continued if row.learner == "continue" else None
        for seed in seeds:
            for fold in folds_of(experiment.name, dataset, seed):
                before = Run(continued, continued.rows[0], fold, seed) if continued else None
                yield Run(experiment, row, fold, seed, begins, before)


def carry_out(run: Run, bench: Bench) -> RunResult:
    """The result of a run: read where it exists, else made; an interrupted training continues.

    Raises
    ------
    DatasetError, RecipeError, ModelError
        If the fold holds too little to train on, or a folder cannot be used.
    """
    done = run.result(bench)
    if done is not None:
        bench.progress.note(f"Done before: {describe(run)}")
        return done
    bench.progress.note(f"Run: {describe(run)}")
    with timed(run.folder(bench) / "seconds.json") as spent:
        result = _LEARNERS[run.row.learner](run, bench)
    write_result(run.folder(bench) / "result.json", result.model_copy(update={"seconds": spent()}))
    if not run.experiment.plan.keep_models:
        run.model(bench).unlink(missing_ok=True)
    return result


def describe(run: Run) -> str:
    """A run in words."""
    return f"{run.experiment.name} · {run.row.name} · {run.fold.name} · seed {run.seed}"


@contextmanager
def timed(file: Path) -> Iterator[Callable[[], float]]:
    """Adds the seconds of the block to those of attempts before it that were interrupted."""
    before = float(orjson.loads(file.read_bytes())) if file.is_file() else 0.0
    began = time.monotonic()

    def spent() -> float:
        return round(before + time.monotonic() - began, 1)

    try:
        yield spent
    finally:
        files.write_json(file, spent())


def _student(run: Run, bench: Bench) -> RunResult:
    """Train the student (from the row's start model if it has one) and score it."""
    data = apply_fold(bench.dataset, run.fold)
    folder = WorkFolder(run.folder(bench) / "train")
    if not folder.model.is_file():
        start = _begins_with(run, bench)
        if run.start is None:
            _share_teacher(run.before or run, bench, data, folder)
        options = TrainOptions(out=folder.path, recipe=run.recipe, start=start, device=bench.device)
        train([data], options, bench.progress)
    return score(run, bench, load_bundle(folder.model, bench.device))


def _begins_with(run: Run, bench: Bench) -> Path | None:
    if run.before is None:
        return run.start.model if run.start else None
    model = run.before.model(bench)
    if not model.is_file():
        raise DatasetError(
            f"The model to train further is not made yet: {describe(run.before)}.",
            f"Run the experiment `{run.before.experiment.name}` first.",
        )
    return model


def _share_teacher(run: Run, bench: Bench, data: Dataset, folder: WorkFolder) -> None:
    """Rows, and experiments, that differ in the student alone have one teacher: it is trained once."""
    mark = digest([teacher_settings(run.recipe), dict(run.fold.splits), bench.dataset.sha256])[:10]
    shelf = WorkFolder(bench.work / "teachers" / mark)
    if teach_in(shelf, [data], TeachOptions(run.recipe, device=bench.device), bench.progress) is not None:
        folder.take_over(shelf)


def _as_is(run: Run, bench: Bench) -> RunResult:
    """Score the start model without training."""
    assert run.start is not None
    return score(run, bench, load_bundle(run.start.model, bench.device))


def _bare_crop(run: Run, bench: Bench) -> RunResult:
    data = apply_fold(bench.dataset, run.fold)
    ground = ground_of(data, "train")
    if ground is None:
        raise DatasetError("No case of this fold is left to train on.", "Use a larger dataset.")
    folder = WorkFolder(run.folder(bench) / "train")
    folder.begin({"run": run.sha256, "dataset": data.sha256})
    network = train_bare_crop(ground, run.recipe, folder, bench.device, bench.progress)
    test = ground_of(data, "test")
    types = opinion_types(bare_crop_opinion(network), test) if test else TypeScores()
    folder.clean()
    return _result(run, bench, data).model_copy(update={"types": types})


_LEARNERS = {
    "student": _student,
    "continue": _student,
    "fine-tune": _student,
    "as-is": _as_is,
    "bare-crop": _bare_crop,
}


def score(run: Run, bench: Bench, bundle: Bundle) -> RunResult:
    """The result of a model on the test cases of the run's fold."""
    data = apply_fold(bench.dataset, run.fold)
    test = ground_of(data, "test")
    point = bundle.card.operating_point.uncalibrated()
    chosen = point.chosen_on != OperatingPoint().chosen_on
    own = run.fold.threshold_from == OWN
    return _result(run, bench, data).model_copy(
        update={
            **_own_threshold(run, point, chosen),
            "own_atypical_threshold": point.atypical_threshold if chosen or own else None,
            "fields": score_fields(bundle, test, bench.progress) if test else (),
            "types": student_types(bundle, test) if test else TypeScores(),
            "device": bundle.card.device,
        }
    )


def _own_threshold(run: Run, point: OperatingPoint, chosen: bool) -> dict[str, float | None]:
    """What a user of this model would have: its own choice, else the start model's, else the default."""
    if not chosen and run.start:
        # A level of nuclei belongs to the very weights.
        level = run.start.nuclei_level if run.row.learner == "as-is" else 0.0
        return {"own_threshold": run.start.threshold, "own_nuclei_level": level}
    threshold = point.threshold if chosen or run.fold.threshold_from == OWN else None
    return {"own_threshold": threshold, "own_nuclei_level": point.nuclei_level}


def _result(run: Run, bench: Bench, data: Dataset) -> RunResult:
    """A result that still lacks scores and seconds."""
    trained = [row for row in data.objects if row.split == "train" and row.role != "non_mitosis"]
    trains = run.row.learner != "as-is"
    return RunResult(
        key=run.key,
        group=run.fold.group,
        threshold_from=run.fold.threshold_from,
        recipe_sha256=run.sha256,
        dataset_sha256=bench.dataset.sha256,
        code_sha256=code_digest(),
        steps=_steps(run) if trains else 0,
        seconds=0.0,
        device=bench.device,
        software=software_versions(),
        mitoses_trained=len(trained) if trains else 0,
    )


def _steps(run: Run) -> int:
    """Training steps that a run's model has behind it, its teacher's included."""
    recipe = run.recipe
    if run.before is not None:
        return recipe.student.steps + _steps(run.before)
    teacher = recipe.teacher.steps * recipe.teacher.rounds if recipe.teacher.masks == "teacher" else 0
    return recipe.student.steps + teacher


def code_digest() -> str:
    """Digest of the code that learns and detects: runs of different code must not share a table unseen."""
    package = Path(midog_qupath.__file__).parent
    sources = sorted(path for part in _CODE for path in (package / part).rglob("*.py"))
    return digest([[path.relative_to(package).as_posix(), files.sha256(path)] for path in sources])[:12]
