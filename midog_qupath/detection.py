"""A detection: what the model found, before and after it stands in a project."""

from __future__ import annotations

from dataclasses import dataclass

from shapely.geometry import Polygon


@dataclass(frozen=True)
class Detection:
    """One mitotic figure found by the model.

    ``x``, ``y`` (slide pixels) is its centre, ``polygon`` its outline in slide pixels (None where only a
    point is known), ``mitosis_probability`` in 0..1, ``atypical_probability`` in 0..1 or None when the
    model has no atypical classifier.
    """

    x: float
    y: float
    mitosis_probability: float
    atypical_probability: float | None
    polygon: Polygon | None
