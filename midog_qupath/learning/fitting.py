"""What of a recipe the data at hand can carry: a part without data is switched off, in one line."""

from __future__ import annotations

from midog_qupath.errors import DatasetError
from midog_qupath.learning.ground import Ground
from midog_qupath.learning.recipe import Recipe
from midog_qupath.progress import Progress


def fit_recipe(recipe: Recipe, ground: Ground, progress: Progress) -> Recipe:
    """Switch off the parts that have no data, and tell so.

    Raises
    ------
    DatasetError
        If no mitosis is labelled in the training cases, or nothing that is none.
    """
    if not ground.mitoses:
        raise DatasetError(
            "No mitosis is labelled in the training cases.",
            "Draw some with the class Mitosis, or tell your class names with --class-map.",
        )
    if not ground.has_fields and not ground.hard_negatives:
        raise DatasetError(
            "Nothing but mitoses is labelled: there is nothing to learn their absence from.",
            "Draw a Region* around an area in which every mitosis is labelled, or label look-alikes.",
        )
    student = recipe.student
    if len({spot.domain for spot in ground.mitoses.spots}) < 2 and student.adversarial_weight:
        progress.note("Domain-adversarial part off: the mitoses come from one domain.")
        student = student.model_copy(update={"adversarial_weight": 0.0})
    if not ground.hard_negatives:
        progress.note("No look-alikes are labelled: hard negatives come from mining alone.")
    if not ground.has_fields:
        progress.note("No area is labelled exhaustively: no mining, and normal nuclei of mosaics alone.")
        student = student.model_copy(update={"mine_at": ()})
    if not knows_types(ground):
        progress.note("Atypical part off: not both normal and atypical mitoses are labelled.")
    sampling = recipe.sampling
    if recipe.teacher.masks == "disc" or not recipe.teacher.surroundings:
        # Nothing would be known in such a tile.
        sampling = sampling.model_copy(update={"share_surroundings": 0.0})
    return recipe.model_copy(update={"student": student, "sampling": sampling})


def knows_types(ground: Ground) -> bool:
    """Whether both normal and atypical mitoses are labelled."""
    roles = {label.row.role for area in ground.areas for label in area.labels}
    return {"normal", "atypical"} <= roles
