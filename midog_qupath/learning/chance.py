"""Chance: where random numbers come from, and choices with unequal odds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

Rng = np.random.Generator


@dataclass(frozen=True)
class Odds:
    """Chances of some things, each in proportion to its weight.

    As ``Generator.choice``, which takes ten times as long to choose one of a few.
    """

    cumulative: tuple[float, ...]

    @staticmethod
    def of(weights: Iterable[float]) -> Odds:
        """``weights`` at least 0, one of them above; they need not sum to 1."""
        return Odds(tuple(accumulate(weights)))

    def draw(self, rng: Rng) -> int:
        """The number of one of the things; never one of weight 0."""
        last = len(self.cumulative) - 1  # the product may be rounded up to the sum
        return bisect_right(self.cumulative, rng.random() * self.cumulative[-1], hi=last)
