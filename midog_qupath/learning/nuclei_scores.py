"""Normal nuclei found by threshold, by seeds and by the teacher, against nuclei outlined by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midog_qupath.dataset.format import AreaRow, ImageRow
from midog_qupath.evaluation.masks import MaskScore, NucleiField, score_nuclei
from midog_qupath.learning.component_tree import Instances
from midog_qupath.learning.ground import AreaGround
from midog_qupath.learning.nuclei import instances, nucleus_instances, otsu_instances
from midog_qupath.learning.predict import class_probabilities
from midog_qupath.learning.pseudo_masks import enlarged
from midog_qupath.learning.stain import haematoxylin
from midog_qupath.models.bundle import BundleCard
from midog_qupath.models.student import BACKGROUND, Student
from midog_qupath.units import WORKING_MPP


def compare_nuclei(
    fields: Sequence[NucleiField], teacher: Student | None = None, card: BundleCard | None = None
) -> dict[str, list[MaskScore]]:
    """Scores of each field by way of finding nuclei: ``otsu``, ``seeds`` and, with a network, ``teacher``."""
    scores = {
        "otsu": [score_nuclei(field, otsu_instances(field.image)) for field in fields],
        "seeds": [score_nuclei(field, nucleus_instances(haematoxylin(field.image))) for field in fields],
    }
    if teacher is not None and card is not None:
        scores["teacher"] = [score_nuclei(f, teacher_instances(teacher, card, f.image)) for f in fields]
    return scores


def teacher_instances(
    teacher: Student, card: BundleCard, image: NDArray[np.uint8], threshold: float = 0.5
) -> Instances:
    """Numbered nuclei (height, width) of an RGB image at the working resolution: all but background."""
    height, width = image.shape[:2]
    row = AreaRow("image", 0.0, 0.0, 1.0, width, height, "")
    of = ImageRow("image", "image", "", width, height, WORKING_MPP, "whole", None, None, 0.0, "test")
    area = AreaGround(row, of, 0, image, np.ones((height, width), dtype=bool), ())
    foreground = 1 - enlarged(class_probabilities(teacher, card, area)[BACKGROUND], area)
    return instances(foreground, threshold)
