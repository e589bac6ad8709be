"""The teacher: trained on seed masks, its averaged opinion becomes the student's pseudo-masks."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from midog_qupath.learning.ground import Ground, Spot, SpotSet
from midog_qupath.learning.mining import mine_area
from midog_qupath.learning.objective import TeacherObjective, pixel_weights
from midog_qupath.learning.phase import Trained, run_phase
from midog_qupath.learning.predict import class_probabilities
from midog_qupath.learning.pseudo_masks import first_masks, pseudo_masks
from midog_qupath.learning.seeds import LabelMap
from midog_qupath.learning.training import Training, frozen
from midog_qupath.models.student import MITOSIS, Student


@dataclass(frozen=True)
class Lesson:
    """What the teacher leaves to the student.

    ``teacher``: None where the recipe has none. ``ground``: under the pseudo-masks. ``mined``: what the
    teacher took for mitoses where every mitosis is labelled.
    """

    teacher: Student | None
    ground: Ground
    mined: SpotSet


def teach(training: Training) -> Lesson:
    """Seed masks, then rounds of a teacher whose opinion becomes the masks of the next."""
    recipe = training.recipe.teacher
    lesson = Lesson(None, training.ground.with_maps(_first(training)), SpotSet(()))
    if recipe.masks != "teacher":
        return lesson
    for number in range(1, recipe.rounds + 1):
        teacher = _train_round(training, lesson.ground, number)
        lesson = _judge(training, teacher, number)
    return lesson


def _first(training: Training) -> list[LabelMap]:
    return training.team.once(lambda: training.folder.load_maps("seeds"), lambda: _seed_masks(training))


def _seed_masks(training: Training) -> list[LabelMap]:
    recipe, maps = training.recipe.teacher, []
    with training.progress.task("seed masks", len(training.ground.areas), "areas") as advance:
        for area in training.ground.areas:
            maps.append(first_masks(area, recipe))
            advance(1)
    training.folder.save_maps("seeds", maps)
    return maps


def _train_round(training: Training, ground: Ground, number: int) -> Student:
    recipe = training.recipe
    seconds = None
    if training.seconds is not None:
        seconds = training.seconds * recipe.teacher.share_of_time / recipe.teacher.rounds
    phase = training.phase(f"teacher-{number}", recipe.teacher.steps, seconds)
    network = training.new_network()
    average = frozen(copy.deepcopy(network))
    trained = Trained(network=network, average=average)
    with training.batches(ground, number, SpotSet(())) as batches:
        objective = TeacherObjective(
            network=network.train(),
            source=batches,
            card=training.card,
            compute=training.compute,
            noise_tolerance=recipe.teacher.noise_tolerance,
            class_weights=pixel_weights(recipe.student.mitosis_pixel_weight),
        )
        run_phase(phase, trained, objective, training.log, training.progress)
    assert isinstance(average, Student)
    return average


def _judge(training: Training, teacher: Student, number: int) -> Lesson:
    """Pseudo-masks and look-alikes from the teacher's opinion of every area."""
    maps, mined = training.team.once(
        lambda: _stored_opinion(training, number), lambda: _opinion(training, teacher, number)
    )
    return Lesson(teacher, training.ground.with_maps(maps), mined)


def _stored_opinion(training: Training, number: int) -> tuple[list[LabelMap], SpotSet] | None:
    maps = training.folder.load_maps(f"pseudo-masks-{number}")
    mined = training.folder.load_spots(f"look-alikes-{number}")
    return None if maps is None or mined is None else (maps, mined)


def _opinion(training: Training, teacher: Student, number: int) -> tuple[list[LabelMap], SpotSet]:
    folder, recipe = training.folder, training.recipe.teacher
    fast = training.compute.for_inference(teacher)
    maps: list[LabelMap] = []
    spots: list[Spot] = []
    with training.progress.task("pseudo-masks", len(training.ground.areas), "areas") as advance:
        for index, area in enumerate(training.ground.areas):
            opinion = class_probabilities(fast, training.card, area)
            maps.append(pseudo_masks(area, opinion, recipe))
            spots.extend(mine_area(index, area, opinion[MITOSIS]))
            advance(1)
    mined = SpotSet(tuple(spots))
    folder.save_maps(f"pseudo-masks-{number}", maps)
    folder.save_spots(f"look-alikes-{number}", mined)
    return maps, mined
