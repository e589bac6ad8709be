"""Thresholds and calibrations of a model, chosen on cases it was not trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.metrics import ScoredImage, best_threshold, hits_of
from midog_qupath.inference.detect import POSITION_WINDOW, detect
from midog_qupath.learning.calibration import fit_calibration
from midog_qupath.learning.ground import Ground
from midog_qupath.learning.predict import ArraySlide
from midog_qupath.learning.recipe import OperatingPointRecipe
from midog_qupath.learning.scoring import ScoredField, score_fields, score_types
from midog_qupath.models.bundle import Bundle, OperatingPoint
from midog_qupath.models.calibration import Calibration
from midog_qupath.progress import Progress
from midog_qupath.units import WORKING_MPP

#: Fewer labelled objects than this choose nothing: the default threshold stays.
FEWEST = 4


def unchosen(recipe: OperatingPointRecipe) -> OperatingPoint:
    """How a model of this recipe scores candidates, and thresholds that no cases have chosen."""
    return OperatingPoint(
        # Relative to its nuclei a network that is sure of itself puts mitoses here, whatever the source.
        threshold=0.93 if recipe.nuclei_quantile else 0.5,
        verifier_weight=recipe.verifier_weight,
        statistics_share=recipe.statistics_share,
        nuclei_quantile=recipe.nuclei_quantile,
    )


def scores_alike(one: OperatingPoint, other: OperatingPoint) -> bool:
    """Whether a threshold of one means the same for the other."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("verifier_weight", "statistics_share", "nuclei_quantile")
    )


def choose_operating_point(bundle: Bundle, ground: Ground | None, progress: Progress) -> OperatingPoint:
    """Thresholds and calibrations from ``bundle``'s own predictions for ``ground``'s cases.

    They are for candidates scored as ``bundle`` scores them; see :func:`operating_point_from`.
    """
    point = bundle.card.operating_point
    if ground is None:
        return point
    plain = bundle.uncalibrated()
    images = score_fields(plain, ground, progress)
    types = score_types(plain, ground)
    cases = f"{len(images)} labelled areas of the validation cases"
    return operating_point_from(images, types.is_atypical, types.probabilities, cases, point)


def operating_point_from(
    images: Sequence[ScoredField],
    typed_labels: NDArray[np.bool_],
    typed_probabilities: NDArray[np.float64],
    chosen_on: str,
    scored: OperatingPoint,
) -> OperatingPoint:
    """Calibrations, and on calibrated probabilities the best pooled F1 and the best balanced accuracy.

    Predictions may come from several models of one recipe, each for the cases that it has not seen; the
    result then serves a model trained on all of them. All probabilities must be uncalibrated ones
    (:meth:`Bundle.uncalibrated`), because the bundle calibrates what its own network says.

    Parameters
    ----------
    images
        Truth and candidates (from the floor of detection) of exhaustively labelled ground, each counted from
        its nuclei; the lowest of those with a mitosis become the result's ``nuclei_level``.
    typed_labels, typed_probabilities
        (N,) whether a mitosis of known type is atypical, and P(atypical | mitosis); empty for none.
    chosen_on
        In words, the ground and who predicted it; the number of mitoses is put before it.
    scored
        How the candidates were scored.

    Returns
    -------
    ``scored`` with other thresholds and calibrations; its own stay where too little is labelled.
    """
    chosen = {
        **_for_mitoses(images, chosen_on),
        **_for_types(typed_labels, typed_probabilities, chosen_on),
    }
    return OperatingPoint.model_validate({**dict(scored), **chosen})


def _for_mitoses(images: Sequence[ScoredField], chosen_on: str) -> dict[str, object]:
    mitoses = sum(len(image.truth) for image in images)
    if mitoses < FEWEST or not any(len(image.predictions) for image in images):
        return {}
    hits = np.concatenate([hits_of(image) for image in images])
    probabilities = np.concatenate([image.probabilities for image in images])
    calibration = fit_calibration(hits, probabilities, f"{len(hits)} candidates in {chosen_on}")
    threshold, counts = best_threshold([_calibrated(image, calibration) for image in images])
    return {
        "threshold": threshold,
        "nuclei_level": lowest_nuclei(images),
        "chosen_on": f"{mitoses} mitoses of {chosen_on}, F1 there {counts.f1:.3f}",
        "mitosis_calibration": calibration,
    }


def lowest_nuclei(images: Sequence[ScoredField]) -> float:
    """The lowest log-odds of nuclei that candidates of an image with a mitosis count from; 0 without any."""
    return min((image.nuclei_log_odds for image in images if len(image.truth)), default=0.0)


def _calibrated(image: ScoredImage, calibration: Calibration | None) -> ScoredImage:
    if calibration is None:
        return image
    return ScoredImage(image.truth, image.predictions, calibration.apply(image.probabilities))


def _for_types(
    is_atypical: NDArray[np.bool_], probabilities: NDArray[np.float64], chosen_on: str
) -> dict[str, object]:
    if min(is_atypical.sum(), (~is_atypical).sum()) < FEWEST:
        return {}
    words = f"{len(is_atypical)} mitoses of known type, predicted together with {chosen_on}"
    calibration = fit_calibration(is_atypical, probabilities, words)
    calibrated = calibration.apply(probabilities) if calibration else probabilities
    return {
        "atypical_threshold": best_type_threshold(is_atypical, calibrated),
        "atypical_calibration": calibration,
    }


def best_type_threshold(is_atypical: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> float:
    """The (N,) atypical probability with the best balanced accuracy, the middle of several equally good.

    Raises
    ------
    ValueError
        Unless both kinds are there.
    """
    normal, atypical = np.sort(probabilities[~is_atypical]), np.sort(probabilities[is_atypical])
    if not len(normal) or not len(atypical):
        raise ValueError("a threshold between types needs both")
    observed = np.unique(probabilities)
    thresholds = np.concatenate([observed[:1], (observed[1:] + observed[:-1]) / 2])
    sensitivity = 1 - np.searchsorted(atypical, thresholds) / len(atypical)
    specificity = np.searchsorted(normal, thresholds) / len(normal)
    accuracy = (sensitivity + specificity) / 2
    best = np.flatnonzero(accuracy >= accuracy.max() - 1e-12)
    return float(thresholds[best[(len(best) - 1) // 2]])


def estimate_seconds(bundle: Bundle, ground: Ground | None) -> float:
    """How long :func:`choose_operating_point` will take here, from one pass over a part of its pixels."""
    if ground is None:
        return 0.0
    typed = sum(label.row.role in ("normal", "atypical") for area in ground.areas for label in area.labels)
    work_px = sum(float(area.exhaustive.size) for area in ground.areas if area.exhaustive.any())
    work_px += typed * POSITION_WINDOW**2
    sample = np.ascontiguousarray(ground.areas[0].pixels[:512, :512])
    times = []
    for _ in range(2):  # the first pass also warms up
        began = time.perf_counter()
        detect(ArraySlide(sample), WORKING_MPP, bundle, minimum_probability=1.0)
        times.append(time.perf_counter() - began)
    # Half as much again for candidates, which an untrained network does not have; two looks beforehand.
    passes = 3.5 if bundle.card.operating_point.adapts else 1.5
    return float(passes * min(times) * work_px / (sample.shape[0] * sample.shape[1]))
