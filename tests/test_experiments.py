"""Experiments: no case is cut, thresholds never come from the fold tested, runs resume and are skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_data import make_dataset
from test_learning_train import TINY, Listener

from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import DatasetError, RecipeError
from midog_qupath.learning.train import TrainOptions, train
from midog_qupath.models.bundle import load_bundle
from training.experiments import driver, folds, runs
from training.experiments.masks import make_masks
from training.experiments.measures import threshold_free_figures
from training.experiments.outcomes import outcomes, read_csv
from training.experiments.plan import Plan, build_experiment, experiment_names, load_experiment
from training.experiments.records import FieldScore, RunKey, RunResult, TypeScores
from training.experiments.statistics import balanced_accuracy_figure, estimate, f1_figure, paired_difference

SMALL = TINY.model_dump(exclude={"name", "description"}, mode="json")


def plan(rows: Sequence[dict[str, object]], **changes: object) -> Plan:
    values = {"title": "A try", "base": "demo", "steps": 2, "seeds": [0], "set": SMALL, "rows": rows}
    return Plan.model_validate({**values, **changes})


def two_sources(folder: Path) -> Dataset:
    """Fields of two sources; the mitoses of the second count as those of a mosaic's typed ones too."""
    return make_dataset(folder, splits=("train",) * 4)


FLOOR = {
    "name": "floor",
    "set": {
        "teacher": {"masks": "disc", "normal_nuclei": False, "surroundings": False},
        "student": {"classifier_weight": 0.0},
        "operating_point": {"verifier_weight": 0.0},
    },
}
TEACHER = {"name": "+ masks", "set": {"teacher": {"masks": "teacher"}}}


def bench_of(data: Dataset, folder: Path) -> runs.Bench:
    return runs.Bench(data, folder, "cpu", Listener())


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Bench, Path]:
    """Where the runs of a detection experiment were made, and its results."""
    folder = tmp_path_factory.mktemp("detection")
    bench = bench_of(two_sources(folder / "data"), folder / "work")
    experiment = build_experiment("detection", plan([FLOOR, TEACHER]))
    driver.make_runs(experiment, bench, driver.Selection(), None)
    driver.write_results(experiment, bench, folder / "results", None)
    return bench, folder / "results"


def test_a_detection_experiment_makes_its_tables_and_is_not_made_twice(
    detection: tuple[runs.Bench, Path],
) -> None:
    bench, results = detection
    lines = read_csv(results / "runs.csv")
    assert Counter(line["row"] for line in lines) == {"floor": 2, "+ masks": 2}
    assert {line["steps"] for line in lines} == {2}
    assert {line["mitoses"] for line in lines} == {4}
    text = (results / "table.md").read_text(encoding="utf-8")
    assert "./run experiments detection" in text
    files = {path: path.stat().st_mtime_ns for path in bench.work.rglob("result.json")}
    assert len(files) == 4
    again = build_experiment("detection", plan([FLOOR, TEACHER]))
    driver.make_runs(again, bench, driver.Selection(), None)
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())


def test_lines_of_runs_made_elsewhere_stay_until_the_recipe_changes(
    detection: tuple[runs.Bench, Path], tmp_path: Path
) -> None:
    bench, results = detection
    before = (results / "runs.csv").read_bytes()
    empty = replace(bench, work=tmp_path / "elsewhere")
    driver.write_results(build_experiment("detection", plan([FLOOR, TEACHER])), empty, results, None)
    assert (results / "runs.csv").read_bytes() == before
    longer = build_experiment("detection", plan([FLOOR, TEACHER], steps=3))
    with pytest.raises(RecipeError, match="holds no results"):
        driver.write_results(longer, empty, results, None)


def test_rows_that_differ_in_the_student_alone_share_a_teacher_and_learn_the_same(tmp_path: Path) -> None:
    rows = [TEACHER, {"name": "+ contrast", "set": {"student": {"contrastive_weight": 0.1}}}]
    experiment = build_experiment("detection", plan(rows, keep_models=True))
    bench = bench_of(two_sources(tmp_path / "data"), tmp_path / "work")
    made = list(runs.runs_of(experiment, bench.dataset, [0]))
    for run in made:
        runs.carry_out(run, bench)
    folds_made = {run.fold.name for run in made}
    assert len(list((bench.work / "teachers").iterdir())) == len(folds_made) < len(made)
    alone = TrainOptions(out=tmp_path / "alone", recipe=made[-1].recipe)
    train([folds.apply_fold(bench.dataset, made[-1].fold)], alone, Listener())
    shared, own = (load_bundle(path, "cpu") for path in (made[-1].model(bench), tmp_path / "alone"))
    pairs = zip(shared.network.state_dict().values(), own.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_row_that_continues_trains_the_model_of_another_experiment_further(tmp_path: Path) -> None:
    bench = bench_of(two_sources(tmp_path / "data"), tmp_path / "work")
    first = build_experiment("detection", plan([TEACHER], steps=4, keep_models=True))
    more = {"name": "more", "learner": "continue"}
    second = build_experiment("detection", plan([more], continues="detection", keep_models=True), first)
    begun, run = (next(runs.runs_of(experiment, bench.dataset, [0])) for experiment in (first, second))
    with pytest.raises(DatasetError, match="not made yet"):
        runs.carry_out(run, bench)
    runs.carry_out(begun, bench)
    masks = next((bench.work / "teachers").rglob("pseudo-masks-1.npz"))
    written = masks.stat().st_mtime_ns
    assert runs.carry_out(run, bench).steps == 4 + 2
    # The teacher behind it is not trained again.
    assert len(list((bench.work / "teachers").iterdir())) == 1
    assert masks.stat().st_mtime_ns == written
    notes = load_bundle(run.model(bench)).card.notes
    assert any("continued from" in note for note in notes)
    weights = [load_bundle(r.model(bench)).network.head.weight for r in (begun, run)]
    # Two steps move a weight little; another start would be far away.
    assert 0 < float((weights[0] - weights[1]).detach().abs().max()) < 0.01


def test_a_row_cannot_continue_what_its_plan_does_not_name() -> None:
    with pytest.raises(ValueError, match="needs the name of an experiment"):
        plan([{"name": "more", "learner": "continue"}])


def test_an_interrupted_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = two_sources(tmp_path / "data")
    often = {**SMALL, "checkpoint_seconds": 0.001}
    experiment = build_experiment("detection", plan([FLOOR], steps=4, set=often))
    run = next(runs.runs_of(experiment, data, [0]))
    stopping = replace(bench_of(data, tmp_path / "work"), progress=Listener(("student", 2)))
    with pytest.raises(KeyboardInterrupt):
        runs.carry_out(run, stopping)
    listener = Listener()
    runs.carry_out(run, replace(stopping, progress=listener))
    assert any("Continuing the training" in said for said in listener.said)
    assert run.result(stopping) is not None
    assert not run.model(stopping).exists()


def test_the_atypical_experiment_runs_with_its_floor(tmp_path: Path) -> None:
    data = mosaics(make_dataset(tmp_path / "data", splits=("train",) * 6))
    bench = bench_of(data, tmp_path / "work")
    rows = [{"name": "bare", "learner": "bare-crop"}, {"name": "student"}]
    experiment = build_experiment("atypical", plan(rows))
    driver.make_runs(experiment, bench, driver.Selection(folds=("domain-0", "domain-1")), None)
    driver.write_results(experiment, bench, tmp_path / "results", None)
    lines = read_csv(tmp_path / "results" / "runs.csv")
    assert len(lines) == 4
    assert all(0 <= float(str(line["balanced_accuracy"])) <= 1 for line in lines)
    assert "balanced accuracy" in (tmp_path / "results" / "table.md").read_text(encoding="utf-8")


def mosaics(data: Dataset) -> Dataset:
    """Two fields train everywhere, the others become images of which only the typed objects are known."""
    return replace(
        data,
        images=tuple(
            row if index < 2 else replace(row, extent="objects") for index, row in enumerate(data.images)
        ),
        objects=tuple(row for row in data.objects if row.image > "field-1" or row.role == "non_mitosis"),
    )


def test_slide_folds_cut_no_case_and_share_the_atypical_mitoses(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", splits=("train",) * 10)
    made = folds.slide_folds(data, 5)
    tested = [case for fold in made for case, split in fold.splits.items() if split == "test"]
    assert sorted(tested) == sorted({row.case for row in data.objects})
    for fold in made:
        rows = folds.apply_fold(data, fold).objects
        assert sum(row.role == "atypical" for row in rows if row.split == "test") == 2
        cases = {split: {row.case for row in rows if row.split == split} for split in ("train", "test")}
        assert not cases["train"] & cases["test"]
    assert made == folds.slide_folds(data, 5)


def test_a_source_left_out_is_nowhere_in_training(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", splits=("train", "train", "val", "val", "test", "test"))
    for fold in folds.source_folds(data, keep_validation=True):
        rows = [*folds.apply_fold(data, fold).objects, *folds.apply_fold(data, fold).images]
        assert {row.split for row in rows if row.domain == fold.name} == {"test"}
        assert {row.split for row in rows if row.domain != fold.name} == {"train", "val"}


def test_few_labels_are_nested_and_tested_on_the_same_other_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path / "data", splits=("train",) * 8, domains=1)
    monkeypatch.setattr(folds, "FEW", (3, 8))
    few, more = folds.few_label_folds(data, seed=1, source="domain-0")
    trained = [{c for c, s in fold.splits.items() if s == "train"} for fold in (few, more)]
    tested = [{c for c, s in fold.splits.items() if s == "test"} for fold in (few, more)]
    assert [len(t) for t in trained] == [2, 4]  # two mitoses a field
    assert trained[0] < trained[1]
    assert tested[0] == tested[1]
    assert not trained[1] & tested[1]


def result(fold: str, group: str, field: FieldScore | None = None, **more: object) -> RunResult:
    values = {
        "key": RunKey(experiment="e", row="r", fold=fold, seed=0),
        "group": group,
        "threshold_from": group,
        "recipe_sha256": "a",
        "dataset_sha256": "b",
        "code_sha256": "c",
        "steps": 1,
        "seconds": 1.0,
        "device": "cpu",
        "software": {},
        "fields": (field,) if field else (),
    }
    return RunResult.model_validate({**values, **more})


def scored(name: str, probabilities: tuple[float, ...], hits: int, nuclei: float | None = None) -> FieldScore:
    """A field of 1 mm² with a mitosis at each of the first ``hits`` candidates, far from one another."""
    places = tuple((100.0 * i, 0.0) for i in range(len(probabilities)))
    return FieldScore(
        image=name,
        case=name,
        domain=name,
        mm2=1.0,
        truth=places[:hits],
        predictions=places,
        probabilities=probabilities,
        nuclei_log_odds=nuclei,
    )


def test_the_level_of_nuclei_comes_with_the_threshold() -> None:
    chooses = result("one", "g", scored("one", (0.9, 0.8, 0.7, 0.1), 2, nuclei=4.0))
    # Log-odds 1.4 and 1.0, the threshold's 1.1: where nuclei have 2 instead of 4 both lose 1.
    lower, higher = (result("two", "g", scored("two", (0.8, 0.73), 1, nuclei=n)) for n in (2.0, 5.0))
    for other, found in ((lower, 0), (higher, 1)):
        runs, _ = outcomes([chooses, other])
        line = next(line for line in runs if line["fold"] == "two")
        assert (line["nuclei_level"], line["tp"], line["fp"]) == (4.0, found, 0)
    runs, _ = outcomes([chooses, result("two", "g", scored("two", (0.8, 0.73), 1))])
    assert "nuclei_level" in runs[1], "the threshold's nuclei are told even where a result has none"
    assert runs[1]["tp"] == 1


def test_the_threshold_of_a_fold_comes_from_the_other_fold() -> None:
    one = result("one", "g", scored("one", (0.9, 0.8, 0.7, 0.1), 2))  # best between 0.8 and 0.7
    other = result("other", "g", scored("other", (0.6, 0.5, 0.3), 1))  # best between 0.6 and 0.5
    lines, cases = outcomes([one, other])
    assert [line["threshold"] for line in lines] == [pytest.approx(0.55), pytest.approx(0.75)]
    # Of the first, 0.9, 0.8, 0.7 are above 0.55: two hits and a false alarm. Of the other, nothing.
    assert [(line["tp"], line["fp"], line["fn"]) for line in lines] == [(2, 1, 0), (0, 0, 1)]
    assert [line["f1_hindsight"] for line in lines] == [pytest.approx(1.0), pytest.approx(1.0)]
    assert [(c["unit"], c["tp"]) for c in cases] == [("one", 2), ("other", 0)]


def test_a_single_fold_has_no_threshold_and_claims_nothing() -> None:
    lines, cases = outcomes([result("one", "g", scored("one", (0.9, 0.8), 1))])
    assert lines[0]["threshold"] is None
    assert "f1" not in lines[0]
    assert not cases


def test_types_are_counted_by_case() -> None:
    types = TypeScores(
        images=("i",) * 4,
        cases=("a", "a", "b", "b"),
        domains=("d",) * 4,
        atypical=(True, False, True, False),
        probabilities=(0.9, 0.2, 0.4, 0.6),
    )
    own = {"types": types, "threshold_from": "own", "own_atypical_threshold": 0.5}
    (line,), cases = outcomes([result("one", "g", **own)])
    assert line["balanced_accuracy"] == pytest.approx(0.5)
    assert line["auroc"] == pytest.approx(0.75)
    assert [(c["unit"], c["atypical_right"], c["normal_right"]) for c in cases] == [("a", 1, 1), ("b", 0, 0)]


def test_figures_by_hand() -> None:
    images = [scored("one", (0.9, 0.8, 0.7), 3).scored(), scored("two", (0.95, 0.75), 0).scored()]
    figures = threshold_free_figures(images, 1.0)
    assert figures["sensitivity_at_1_per_mm2"] == pytest.approx(2 / 3)  # 0.9 and 0.8 after the false 0.95
    assert figures["sensitivity_at_2_per_mm2"] == pytest.approx(1.0)
    assert figures["f1_hindsight"] == pytest.approx(6 / 8, abs=1e-6)  # all three, two false ones


def test_a_paired_difference_by_hand() -> None:
    # Two cases alike: every resample has the same figures, the interval is the value.
    old = [np.array([[[1, 0, 1], [1, 0, 1]]])]  # F1 2/3
    new = [np.array([[[2, 0, 0], [2, 0, 0]]])]  # F1 1
    found, none = paired_difference(f1_figure, new, old), paired_difference(f1_figure, old, old)
    assert found is not None
    assert none is not None
    assert (found.value, found.low, found.high) == pytest.approx((1 / 3,) * 3, abs=1e-5)
    assert not found.holds_zero
    assert (none.value, none.low, none.high) == (0, 0, 0)
    assert none.holds_zero


def test_means_over_folds_and_seeds_by_hand() -> None:
    # Two seeds: balanced accuracy 1 and 0.5 on the first fold, 0 and 1 on the second.
    first = np.array([[[4, 4, 4, 4], [0, 0, 0, 0]], [[4, 4, 4, 0], [0, 0, 0, 0]]])
    second = np.array([[[2, 2, 0, 0]], [[2, 2, 2, 2]]])
    found = estimate(balanced_accuracy_figure, [first, second])
    assert found is not None
    assert found.value == pytest.approx((0.75 + 0.5) / 2)


def test_one_case_gives_no_interval() -> None:
    assert estimate(f1_figure, [np.array([[[1, 0, 1]]])]) is None


@pytest.mark.parametrize("name", experiment_names())
def test_the_plans_are_valid_and_every_row_has_the_same_steps(name: str) -> None:
    experiment = load_experiment(name)
    totals = set()
    for row in experiment.rows:
        teacher = row.recipe.teacher
        # The teacher of a row that continues is behind it.
        own = teacher.masks == "teacher" and row.learner != "continue"
        taught = teacher.steps * teacher.rounds if own else 0
        totals.add(taught + row.recipe.student.steps)
    assert totals == {experiment.plan.steps}


def test_rows_add_up() -> None:
    experiment = load_experiment("detection")
    recipes = [row.recipe for row in experiment.rows]
    switched = [
        (r.teacher.masks != "disc")
        + (r.teacher.normal_nuclei)
        + (r.student.contrastive_weight > 0)
        + (r.student.adversarial_weight > 0)
        + bool(r.student.mine_at)
        + (r.sampling.share_wide > 0)
        + (r.operating_point.statistics_share > 0)
        + (r.operating_point.verifier_weight > 0)
        for r in recipes
    ]
    assert switched == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_an_unknown_experiment_or_row_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="detection"):
        load_experiment("nonsense")
    bench = bench_of(two_sources(tmp_path / "data"), tmp_path / "work")
    experiment = build_experiment("detection", plan([FLOOR]))
    with pytest.raises(RecipeError, match="floor"):
        driver.make_runs(experiment, bench, driver.Selection(rows=("nonsense",)), None)
    with pytest.raises(RecipeError, match=r"student\.stpes"):
        build_experiment("detection", plan([{"name": "a", "set": {"student": {"stpes": 3}}}]))


@pytest.mark.long
def test_the_released_model_takes_its_threshold_from_the_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from midog_qupath.models.bundle import load_bundle
    from training.experiments import released

    data = make_dataset(tmp_path / "data")
    bench = bench_of(data, tmp_path / "work")
    experiment = build_experiment("released", plan([{"name": "released"}], keep_models=True))
    monkeypatch.setattr(released, "load_experiment", lambda name, steps: experiment)
    monkeypatch.setattr(released, "FINE_TUNING_SOURCE", "domain-0")
    driver.make_runs(experiment, bench, driver.Selection(), None)
    results = tmp_path / "released-results"
    results.mkdir()
    (results / "table.md").write_text("| an earlier model | 0.99 |", encoding="utf-8")
    file = driver.publish_model(experiment, bench, results, None, tmp_path / "released")
    card = load_bundle(file).card
    assert "research only" in card.licence
    told = (file.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.operating_point.chosen_on in told
    assert "| released |" in told
    assert "an earlier model" not in told
    assert card.trained_cases == tuple(f"field-{n}" for n in range(6))
    assert "had not seen it" in card.operating_point.chosen_on
    start = released.start_model(bench, None)
    assert start.model.is_file()
    tuning = build_experiment(
        "fine-tuning",
        plan([{"name": "as it is", "learner": "as-is"}, {"name": "tuned", "learner": "fine-tune"}]),
    )
    monkeypatch.setattr(folds, "FEW", (2, 3))
    monkeypatch.setitem(
        folds._MAKERS, "fine-tuning", lambda d, seed: folds.few_label_folds(d, seed, "domain-0")
    )
    monkeypatch.setattr(driver, "start_model", released.start_model)
    driver.make_runs(tuning, bench, driver.Selection(), None)
    driver.write_results(tuning, bench, tmp_path / "results", None)
    lines = read_csv(tmp_path / "results" / "runs.csv")
    assert [line["threshold"] for line in lines] == [pytest.approx(start.threshold, rel=1e-4)] * 4


def test_the_mask_experiment_tells_what_teachers_find(tmp_path: Path, data_dir: Path) -> None:
    bench = bench_of(two_sources(tmp_path / "data"), tmp_path / "work")
    nuclei = tmp_path / "nuclei"
    nuclei.mkdir()
    for image in sorted((data_dir / "nuclei").glob("*.png"))[:4]:
        (nuclei / image.name).symlink_to(image)
    make_masks(bench, nuclei, tmp_path / "results", (0,), steps=2)
    text = (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
    assert "of 2 (seed 0)" in text
    assert "(100.00 %)" in text
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("result.json")}
    make_masks(bench, nuclei, tmp_path / "results", (0,), steps=2)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("result.json")}
    with pytest.raises(DatasetError, match="outlined nuclei"):
        make_masks(bench, tmp_path / "nowhere", tmp_path / "results", (0,), steps=2)
