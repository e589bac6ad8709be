"""How many of some detections are mitoses, given how probable each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

#: Products of fewer terms are multiplied plainly, longer ones by Fourier transforms.
_PLAIN = 256


@dataclass(frozen=True)
class CountInterval:
    """``expected`` mitoses, and the 95 % interval of their number."""

    expected: float
    low: int
    high: int


def count_interval(probabilities: Sequence[float], certain: int = 0) -> CountInterval:
    """Interval of ``certain`` mitoses and those among detections that are right with (N,) ``probabilities``.

    The Poisson-binomial distribution: detections are right or wrong independently of each other. (Poisson,
    Recherches sur la probabilite des jugements, 1837.) From the 2.5 % to the 97.5 % quantile.
    """
    chances = distribution(np.asarray(probabilities, dtype=np.float64))
    below = np.cumsum(chances)
    low, high = (int(np.searchsorted(below, share - 1e-12)) for share in (0.025, 0.975))
    return CountInterval(
        certain + float(sum(probabilities)), certain + low, certain + min(high, len(chances) - 1)
    )


def distribution(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N + 1,) chance that exactly k of N independent things with these (N,) probabilities happen."""
    parts = [np.array([1 - p, p]) for p in probabilities] or [np.ones(1)]
    while len(parts) > 1:
        pairs = [_product(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def _product(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    if min(len(one), len(other)) <= _PLAIN:
        return np.convolve(one, other)
    return np.asarray(np.maximum(fftconvolve(one, other), 0.0))
