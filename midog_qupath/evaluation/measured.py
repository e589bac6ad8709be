"""One image as it was measured: what is true, what was said, and where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midog_qupath.evaluation.metrics import Counts, ScoredImage

#: Type of a figure in words of numbers; also what was called.
UNKNOWN, NORMAL, ATYPICAL = -1, 0, 1


@dataclass(frozen=True)
class TypedFigures:
    """Figures whose type is known, all (N,).

    ``cases``: of each; ``called``: -1 unknown, 0 normal, 1 atypical; ``scores``: probability of being
    atypical, NaN unknown.
    """

    cases: tuple[str, ...] = ()
    is_atypical: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    called: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class MeasuredImage:
    """An image with everything that figures need.

    ``counts``: hits, false positives and misses, None where detections are not measured; ``scored``:
    candidates over all thresholds, None where they are not known; ``mm2``: labelled ground.
    """

    name: str
    case: str
    domain: str
    region_type: str
    mm2: float
    counts: Counts | None
    scored: ScoredImage | None
    types: TypedFigures


Measured: TypeAlias = Sequence[MeasuredImage]


def grouped(images: Measured, key: Callable[[MeasuredImage], str]) -> dict[str, list[MeasuredImage]]:
    """Images by domain or region type, sorted by its name."""
    groups: dict[str, list[MeasuredImage]] = {}
    for image in images:
        groups.setdefault(key(image), []).append(image)
    return dict(sorted(groups.items()))


def with_detection(images: Measured) -> list[MeasuredImage]:
    """The images in which detections are measured."""
    return [image for image in images if image.counts is not None]


def all_types(images: Measured) -> TypedFigures:
    """The typed figures of all images together."""
    types = [image.types for image in images]
    return TypedFigures(
        cases=tuple(case for one in types for case in one.cases),
        is_atypical=np.concatenate([np.empty(0, np.bool_), *(one.is_atypical for one in types)]),
        called=np.concatenate([np.empty(0, np.int64), *(one.called for one in types)]),
        scores=np.concatenate([np.empty(0), *(one.scores for one in types)]),
    )
