"""Calibrating probabilities on cases that the model was not trained on.

Two parameters on log-odds (Platt, Advances in Large Margin Classifiers, 1999; temperature scaling with a
shift), fitted by logistic regression that is drawn towards leaving the probability as it is.

A calibrated mitosis probability says how often a candidate like this is a mitosis *in ground like that of
the cases it was fitted on*. Candidates below the floor of detection are not seen; fields that were chosen
because they hold mitoses are richer in them than a whole slide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from midog_qupath.models.calibration import Calibration, ReliabilityBin, log_odds, sigmoid

Floats = NDArray[np.float64]

#: Fewer positives or negatives than this calibrate nothing.
FEWEST = 10
_BINS = 10
#: Standard deviations of the prior around slope 1 and intercept 0, and the slopes allowed: never falling,
#: and not so steep that different probabilities become one number.
_SLOPE_SPREAD, _INTERCEPT_SPREAD = 1.0, 3.0
_SLOPES = (0.05, 2.5)


def fit_calibration(positive: NDArray[np.bool_], probabilities: Floats, chosen_on: str) -> Calibration | None:
    """The calibration of (N,) probabilities by (N,) labels; None (leave them) with too few of a kind.

    ``chosen_on``: in words, which objects these are.
    """
    if min(positive.sum(), (~positive).sum()) < FEWEST:
        return None
    slope, intercept = _fit(positive, log_odds(probabilities))
    calibrated = sigmoid(slope * log_odds(probabilities) + intercept)
    return Calibration(
        slope=slope,
        intercept=intercept,
        n=len(positive),
        positives=int(positive.sum()),
        error_before=expected_calibration_error(reliability(positive, probabilities)),
        error_after=expected_calibration_error(reliability(positive, calibrated)),
        bins=reliability(positive, calibrated),
        chosen_on=chosen_on,
    )


def _fit(positive: NDArray[np.bool_], odds: Floats) -> tuple[float, float]:
    """Slope and intercept with the highest posterior probability."""
    sign = np.where(positive, 1.0, -1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slope, intercept = parameters
        margin = sign * (slope * odds + intercept)
        pull = -sign * sigmoid(-np.clip(margin, -500, 500))
        away = np.array([(slope - 1) / _SLOPE_SPREAD**2, intercept / _INTERCEPT_SPREAD**2])
        prior = ((slope - 1) / _SLOPE_SPREAD) ** 2 / 2 + (intercept / _INTERCEPT_SPREAD) ** 2 / 2
        value = float(np.logaddexp(0, -margin).sum() + prior)
        return value, np.array([(pull * odds).sum(), pull.sum()]) + away

    found = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[_SLOPES, (None, None)])
    return float(found.x[0]), float(found.x[1])


def reliability(
    positive: NDArray[np.bool_], probabilities: Floats, bins: int = _BINS
) -> tuple[ReliabilityBin, ...]:
    """The reliability curve of (N,) probabilities in bins of equal width; empty ones are left out."""
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    return tuple(
        ReliabilityBin(
            predicted=float(probabilities[index == b].mean()),
            observed=float(positive[index == b].mean()),
            n=int((index == b).sum()),
        )
        for b in np.unique(index)
    )


def expected_calibration_error(curve: tuple[ReliabilityBin, ...]) -> float:
    """Mean over objects of the distance between probability and share of positives in their bin; 0..1.

    (Naeini, Cooper and Hauskrecht, AAAI 2015.) 0 for no objects.
    """
    total = sum(b.n for b in curve)
    return sum(b.n * abs(b.predicted - b.observed) for b in curve) / total if total else 0.0
