"""A tiny whole training: loss falls, parts switch off, and it continues as if never interrupted."""

import re
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from learning_data import make_dataset
from pydantic import ValidationError

from midog_qupath.errors import DatasetError, ModelError, RecipeError
from midog_qupath.learning.interrupts import held_back
from midog_qupath.learning.operating_point import unchosen
from midog_qupath.learning.recipe import AugmentationRecipe, Recipe, load_recipe, recipe_names
from midog_qupath.learning.runlog import RunLog, read_log
from midog_qupath.learning.start import starting_model
from midog_qupath.learning.train import TrainOptions, train
from midog_qupath.learning.workfolder import WorkFolder
from midog_qupath.models.bundle import BundleCard, load_bundle, round_weights, save_bundle
from midog_qupath.models.student import NetworkConfig, Student

TINY = Recipe.model_validate(
    {
        "name": "tiny",
        "precision": "fp32",
        "network": {
            "encoder": "tu-mobilenetv3_small_050",
            "decoder_channels": [32, 16, 16],
            "classifier_channels": 8,
        },
        "sampling": {"tile_px": 64, "batch": 6},
        "optimiser": {"learning_rate": 4e-3, "ema": 0.9},
        "teacher": {"steps": 6},
        # Every part of the method, those too that are off by default.
        "student": {"steps": 60, "contrastive_bank": 64, "adversarial_weight": 0.1},
    }
)


class Listener:
    """Progress that remembers what it was told and can interrupt: cancelled, or as a crash would."""

    def __init__(
        self, stop_at: tuple[str, int] | None = None, by: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self.said: list[str] = []
        self._stop_at = stop_at
        self._by = by

    @contextmanager
    def task(self, label: str, total: float, unit: str):  # type: ignore[no-untyped-def]
        done = 0.0

        def advance(amount: float) -> None:
            nonlocal done
            done += amount
            if self._stop_at and label == self._stop_at[0] and done >= self._stop_at[1]:
                raise self._by

        yield advance

    def note(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(message)


def test_training_learns_and_leaves_a_model_with_its_story(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    # Long enough that what is learnt outweighs what the last steps happen to look at.
    longer = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 120})})
    model = train([data], TrainOptions(tmp_path / "model", longer), Listener())
    card = load_bundle(model).card
    assert card.trained_cases == ("field-0", "field-1", "field-2", "field-3")
    assert card.tuned_cases == ("field-4", "field-5")
    assert card.dataset_sha256 == (data.sha256,)
    assert card.has_atypical
    assert (tmp_path / "model" / "curves.png").stat().st_size > 1000
    assert not (tmp_path / "model" / "work").exists()
    rows = [r for r in read_log(tmp_path / "model" / "log.csv") if r[0] == "student"]
    totals = [value for _, _, name, value in rows if name == "total"]
    assert totals[-1] < totals[0]
    assert {"contrastive", "classifier", "domain accuracy", "domain chance"} <= {row[2] for row in rows}


def test_an_interrupted_training_continues_with_the_same_result(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    few = TINY.student.model_copy(update={"steps": 20})
    often = TINY.model_copy(update={"checkpoint_seconds": 0.001, "student": few})
    whole = train([data], TrainOptions(tmp_path / "whole", often), Listener())
    options = TrainOptions(tmp_path / "parts", often)
    for phase, step, by in (
        ("teacher-1", 4, KeyboardInterrupt),
        ("student", 9, MemoryError),
        ("student", 15, KeyboardInterrupt),
    ):
        with pytest.raises(by):
            train([data], options, Listener((phase, step), by))
    parts = train([data], options, Listener())
    one, other = (load_bundle(path).network.state_dict() for path in (whole, parts))
    for name, value in one.items():
        assert torch.allclose(value.float(), other[name].float(), atol=1e-5), name


def test_parts_without_data_are_switched_off_in_one_line(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", roles=("normal",), domains=1)
    short = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 3})})
    listener = Listener()
    model = train([data], TrainOptions(tmp_path / "model", short), listener)
    told = "\n".join(listener.said)
    assert "Domain-adversarial part off" in told
    assert "No look-alikes" in told
    assert "Atypical part off" in told
    assert not load_bundle(model).card.has_atypical


def test_training_continues_from_a_model(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    short = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 2})})
    first = train([data], TrainOptions(tmp_path / "first", short), Listener())
    second = train([data], TrainOptions(tmp_path / "second", short, start=first), Listener())
    assert load_bundle(second).card.network == TINY.network
    for recipe, told in ((TINY, False), (load_recipe("standard"), True)):
        listener = Listener()
        assert starting_model(str(first), recipe, listener) == first
        assert any("Its network is not the recipe's" in said for said in listener.said) is told


@pytest.mark.long
def test_thresholds_of_the_model_before_stay_where_no_case_can_choose_others(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    first = train([data], TrainOptions(tmp_path / "first", TINY), Listener())
    chosen = load_bundle(first).card.operating_point
    assert "mitoses of" in chosen.chosen_on
    assert chosen.nuclei_level > 0
    short = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 3})})
    without = make_dataset(tmp_path / "without", splits=("train",) * 6)
    kept = train([without], TrainOptions(tmp_path / "kept", short, start=first), Listener())
    # What nuclei looked like to the weights of before says nothing of these.
    alone = chosen.model_copy(update={"nuclei_level": 0.0})
    assert load_bundle(kept).card.operating_point == alone
    # Scored in another way, they would mean something else.
    plain = short.operating_point.model_copy(update={"nuclei_quantile": 0.0})
    other = short.model_copy(update={"operating_point": plain})
    changed = train([without], TrainOptions(tmp_path / "changed", other, start=first), Listener())
    assert load_bundle(changed).card.operating_point == unchosen(plain)


def test_what_was_learnt_from_a_model_keeps_its_terms_and_its_cases(tmp_path: Path) -> None:
    short = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 1})})
    old, new = (
        make_dataset(tmp_path / "old", splits=["train"] * 2),
        make_dataset(tmp_path / "new", splits=["val", "val", "train", "train"]),
    )
    first = train([old], TrainOptions(tmp_path / "first", short), Listener())
    bundle = load_bundle(first)
    card = bundle.card.model_copy(update={"licence": "For research only."})
    save_bundle(first, card, bundle.network)
    second = train([new], TrainOptions(tmp_path / "second", short, start=first), Listener())
    continued = load_bundle(second).card
    assert continued.licence == "For research only."
    assert {*card.trained_cases} < {*continued.trained_cases}


def test_no_case_that_a_model_learnt_from_chooses_its_threshold_later(tmp_path: Path) -> None:
    short = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 1})})
    old = make_dataset(tmp_path / "old", splits=["train", "train", "val", "val"])
    new = make_dataset(tmp_path / "new", splits=["val", "train", "val", "train"])
    first = train([old], TrainOptions(tmp_path / "first", short), Listener())
    listener = Listener()
    second = train([new], TrainOptions(tmp_path / "second", short, start=first), listener)
    card = load_bundle(second).card
    assert any("1 validation case that the model to start from" in said for said in listener.said)
    assert card.trained_cases == ("field-0", "field-1", "field-3")
    assert card.tuned_cases == ("field-2", "field-3")
    # What only chose the threshold before may choose it again.
    third = train([old], TrainOptions(tmp_path / "third", short, start=first), Listener())
    assert load_bundle(third).card.tuned_cases == ("field-2", "field-3")


def test_a_time_limit_counts_what_was_spent_before_an_interruption(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    endless = TINY.model_copy(
        update={"checkpoint_seconds": 0.001, "student": TINY.student.model_copy(update={"steps": 10**6})}
    )
    folder, options = WorkFolder(tmp_path / "model"), TrainOptions(tmp_path / "model", endless, seconds=30)
    with pytest.raises(KeyboardInterrupt):
        train([data], options, Listener(("student", 2)))
    spent = folder.spent_seconds()
    assert 0 < spent < 30
    folder.keep_spent_seconds(spent + 1000)
    checkpoint = torch.load(folder.checkpoint("student"), weights_only=True)
    checkpoint["seconds"] = checkpoint["used_seconds"]
    torch.save(checkpoint, folder.checkpoint("student"))
    # The phase keeps the time that it was given first, which is over now: no step more is taken.
    train([data], options, Listener())
    assert not [row for row in read_log(tmp_path / "model" / "log.csv") if row[0] == "student"]


def test_a_phase_begun_after_an_interruption_has_what_is_left_of_the_time_limit(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    endless = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 10**6})})
    options = TrainOptions(tmp_path / "model", endless, seconds=60)
    with pytest.raises(KeyboardInterrupt):
        train([data], options, Listener(("teacher-1", 5)))
    WorkFolder(tmp_path / "model").keep_spent_seconds(1000)
    began = time.monotonic()
    train([data], options, Listener())
    assert time.monotonic() - began < 30


def test_the_log_holds_every_step_once_and_no_phase_leaks_into_the_next(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    recipe = TINY.model_copy(
        update={
            "teacher": TINY.teacher.model_copy(update={"steps": 25}),
            "student": TINY.student.model_copy(update={"steps": 20}),
        }
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train([data], TrainOptions(whole, recipe), Listener())
    with pytest.raises(MemoryError):  # before the first checkpoint
        train([data], TrainOptions(parts, recipe), Listener(("teacher-1", 22), MemoryError))
    assert not WorkFolder(parts).checkpoint("teacher-1").exists()
    with pytest.raises(KeyboardInterrupt):
        train([data], TrainOptions(parts, recipe), Listener(("student", 11)))
    assert torch.load(WorkFolder(parts).checkpoint("student"), weights_only=True)["step"] == 11
    train([data], TrainOptions(parts, recipe), Listener())
    rows = read_log(parts / "log.csv")
    assert [row[:3] for row in rows] == [row[:3] for row in read_log(whole / "log.csv")]
    assert len({row[:3] for row in rows}) == len(rows)
    log = RunLog(tmp_path / "log.csv")
    log.rewind("teacher", 0)
    log.add("teacher", 9, {"total": 1000.0})
    log.rewind("student", 0)
    log.add("student", 10, {"total": 1.0})
    assert read_log(tmp_path / "log.csv") == [("student", 10, "total", 1.0)]


def test_cancelling_waits_for_the_end_of_a_step() -> None:
    done: list[str] = []
    # What starts a program in the background may have it ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def step() -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the step")

    try:
        with pytest.raises(KeyboardInterrupt):
            step()
        assert done == ["the rest of the step"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        # What a caller wants a signal to do is done, here nothing.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        step()
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_file_holds_the_weights_that_were_measured(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = Student(TINY.network).eval()
    card = BundleCard(name="x", created="2025-01-01T00:00:00Z", network=TINY.network)
    round_weights(network)
    save_bundle(tmp_path / "model.safetensors", card, network)
    loaded = load_bundle(tmp_path).network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())


def test_nothing_to_learn_from_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    none = make_dataset(tmp_path / "none", roles=("non_mitosis",))
    with pytest.raises(DatasetError, match="No mitosis is labelled"):
        train([none], TrainOptions(tmp_path / "a", TINY), Listener())
    only = make_dataset(tmp_path / "only", roles=("normal",), extent="objects")
    with pytest.raises(DatasetError, match="Nothing but mitoses"):
        train([only], TrainOptions(tmp_path / "b", TINY), Listener())


def test_a_folder_with_another_training_is_not_touched(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        train([data], TrainOptions(tmp_path / "model", TINY), Listener(("teacher-1", 1)))
    other = TINY.model_copy(update={"seed": 5})
    with pytest.raises(ModelError, match=r"other settings \(recipe, time limit\)"):
        train([data], TrainOptions(tmp_path / "model", other, seconds=60), Listener())


def test_a_misspelt_recipe_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for text, told in (
        ("[student]\nstpes = 3", r"an unknown key student\.stpes\. Is it steps\?"),
        ("[teacher]\ncolour = 3", r"an unknown key teacher\.colour\. There are: .*rounds"),
        ("colour = 3", "an unknown key colour. There are: .*teacher"),
        ("[augmentation]\nscale = [2, 1]", "augmentation: scale names the smaller magnification first"),
        ("student = 3", "student: "),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(RecipeError, match=told):
            load_recipe(str(path))
    path.write_bytes("description = 'Größe'".encode("latin-1"))
    with pytest.raises(RecipeError, match="no text in UTF-8"):
        load_recipe(str(path))
    with pytest.raises(RecipeError, match="Shipped ones"):
        load_recipe("nonsense")


def test_a_folder_that_holds_other_things_is_not_taken(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data")
    with pytest.raises(ModelError, match=r"holds other things \("):
        train([data], TrainOptions(tmp_path / "data", TINY), Listener())
    assert not (tmp_path / "data" / "settings.json").exists()


def test_an_encoder_that_nobody_has_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    for encoder in ("resnet999", "tu-resnet999"):
        with pytest.raises(ModelError, match=f"No encoder {encoder}"):
            Student(NetworkConfig(encoder=encoder))


@pytest.mark.parametrize("scale", [(1.7, 0.65), (0, 0), (0.5, float("inf"))])
def test_magnifications_that_cannot_be_drawn_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="scale"):
        AugmentationRecipe(scale=scale)


def test_a_training_says_where_its_time_was_up_and_that_its_threshold_was_not_chosen(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", splits=("train",) * 4)
    endless = TINY.model_copy(update={"student": TINY.student.model_copy(update={"steps": 10**6})})
    listener = Listener()
    train([data], TrainOptions(tmp_path / "model", endless, seconds=5), listener)
    assert any(re.match(r"student: time is up after \d+ of 1000000 steps", said) for said in listener.said)
    assert "Threshold 0.930 as before this training" in listener.said[-1]


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid(name: str) -> None:
    assert load_recipe(name).description
