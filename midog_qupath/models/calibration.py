"""Calibrated probabilities: log-odds shifted and stretched until they say how often they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

#: Probabilities are held this far from 0 and 1 before their odds are taken.
EPSILON = 1e-6

Floats = NDArray[np.float64]


class ReliabilityBin(BaseModel):
    """One point of a reliability curve: mean probability, share of positives, and number of objects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predicted: float
    observed: float
    n: int


class Calibration(BaseModel):
    """Two parameters on log-odds, and how well they fit.

    ``n``, ``positives``: objects that were fitted. ``error_before``, ``error_after``: expected calibration
    error without and with the calibration, ``bins`` the reliability curve with it, all on the objects that
    fitted it. ``chosen_on``: in words, which those were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(gt=0)
    intercept: float
    n: int
    positives: int
    error_before: float
    error_after: float
    bins: tuple[ReliabilityBin, ...]
    chosen_on: str

    def apply(self, probabilities: Floats) -> Floats:
        """Calibrated (N,) of (N,): sigmoid(slope * logit(p) + intercept), which never changes ranks."""
        return sigmoid(self.slope * log_odds(probabilities) + self.intercept)

    def invert(self, probabilities: Floats) -> Floats:
        """What :meth:`apply` turns into these."""
        return sigmoid((log_odds(probabilities) - self.intercept) / self.slope)


def log_odds(probabilities: Floats) -> Floats:
    """log(p / (1 - p)), p held between 1e-6 and 1 - 1e-6."""
    clipped = np.clip(probabilities, EPSILON, 1 - EPSILON)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def sigmoid(odds: Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), dtype=np.float64)
