"""The student: trained on pseudo-masks with every part of the method, look-alikes mined on the way."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from midog_qupath.learning.domain import ConditionalDomainHead
from midog_qupath.learning.ground import SpotSet
from midog_qupath.learning.mining import mine
from midog_qupath.learning.objective import StudentObjective, Values, empty_bank, pixel_weights
from midog_qupath.learning.phase import Trained, run_phase
from midog_qupath.learning.prefetch import Prefetch
from midog_qupath.learning.teacher import Lesson
from midog_qupath.learning.training import Training, frozen
from midog_qupath.models.student import Student


def study(training: Training, lesson: Lesson) -> Student:
    """Train the student on the teacher's pixel classes; returns its weights' moving average."""
    recipe = training.recipe
    network = training.new_network()
    if lesson.teacher is not None and recipe.teacher.warm_start:
        network.load_state_dict(lesson.teacher.state_dict())
    average = frozen(copy.deepcopy(network))
    assert isinstance(average, Student)
    head = None
    if recipe.student.adversarial_weight:
        head = ConditionalDomainHead(recipe.network.decoder_channels[-1], len(training.ground.domains))
        head.to(training.compute.device)
    with training.batches(lesson.ground, 0, lesson.mined) as batches:
        objective = StudentObjective(
            network=network.train(),
            domain_head=head,
            source=batches,
            card=training.card,
            compute=training.compute,
            recipe=recipe.student,
            class_weights=pixel_weights(recipe.student.mitosis_pixel_weight),
            bank=empty_bank(recipe.network.embedding_dim, training.compute.device),
        )
        trained = Trained(network=network, average=average, extra=head, state=objective.bank)
        phase = training.phase("student", recipe.student.steps, training.seconds_left())
        mining = _Mining(training, average, objective, batches)
        run_phase(phase, trained, mining, training.log, training.progress)
    return average


@dataclass
class _Mining:
    """Mines look-alikes with the moving average whenever training passes a point of the recipe."""

    training: Training
    average: Student
    objective: StudentObjective
    batches: Prefetch
    rounds: int = 0

    def __call__(self, step: int, progress: float) -> Values:
        due = sum(progress >= at for at in self.training.recipe.student.mine_at)
        if due > self.rounds:
            self.rounds = due
            self.batches.mine(self._spots(due))
        return self.objective(step, progress)

    def _spots(self, number: int) -> SpotSet:
        folder, name = self.training.folder, f"mined-{number}"

        def find() -> SpotSet:
            network = self.training.compute.for_inference(self.average)
            ground = self.batches.source.ground
            spots = mine(network, self.training.card, ground, self.training.progress)
            folder.save_spots(name, spots)
            return spots

        return self.training.team.once(lambda: folder.load_spots(name), find)
