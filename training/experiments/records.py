"""What a run leaves behind: every candidate with position and probability, truth, times. One JSON file."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from midog_qupath.errors import DatasetError
from midog_qupath.files import write_json
from midog_qupath.inference.adapt import counted_from
from midog_qupath.learning.scoring import ScoredField
from midog_qupath.models.calibration import log_odds, sigmoid

#: Raised when runs of before mean something else.
VERSION = 1

Pairs = tuple[tuple[float, float], ...]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldScore(_Strict):
    """Candidates of one labelled area, most probable first; positions x, y in microns of the area.

    ``nuclei_log_odds``: what their log-odds count from; None in results that do not tell it.
    """

    image: str
    case: str
    domain: str
    mm2: float
    truth: Pairs
    predictions: Pairs
    probabilities: tuple[float, ...]
    nuclei_log_odds: float | None = None

    def scored(self, chosen_at: float = 0.0) -> ScoredField:
        """As the metrics take it, and as a threshold does that was chosen at this level of nuclei."""
        nuclei, probabilities = self.nuclei_log_odds or 0.0, np.array(self.probabilities, dtype=np.float64)
        if self.nuclei_log_odds is not None and chosen_at > nuclei:
            nuclei = counted_from(self.nuclei_log_odds, chosen_at)
            probabilities = sigmoid(log_odds(probabilities) - (nuclei - self.nuclei_log_odds))
        return ScoredField(
            truth=np.array(self.truth, dtype=np.float64).reshape(-1, 2),
            predictions=np.array(self.predictions, dtype=np.float64).reshape(-1, 2),
            probabilities=probabilities,
            nuclei_log_odds=nuclei,
        )


class TypeScores(_Strict):
    """Mitoses of known type, one entry each: where, what, and the probability of being atypical."""

    images: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    atypical: tuple[bool, ...] = ()
    probabilities: tuple[float, ...] = ()

    def labels(self) -> NDArray[np.bool_]:
        """(N,) whether each is atypical."""
        return np.array(self.atypical, dtype=np.bool_)

    def scores(self) -> NDArray[np.float64]:
        """(N,) atypical probabilities."""
        return np.array(self.probabilities, dtype=np.float64)


class RunKey(_Strict):
    """Which run: the recipe of ``row``, trained without the test cases of ``fold``."""

    experiment: str
    row: str
    fold: str
    seed: int


class RunResult(_Strict):
    """One run. ``own_threshold``: chosen on validation cases of seen sources; None where there were none.

    ``own_nuclei_level`` belongs to it (:class:`midog_qupath.models.bundle.OperatingPoint`).

    ``recipe_sha256`` and ``dataset_sha256`` say what was run on what, ``code_sha256`` with which learning
    code; ``mitoses_trained``: labelled mitoses it was trained on.
    """

    version: int = VERSION
    key: RunKey
    group: str
    threshold_from: str
    recipe_sha256: str
    dataset_sha256: str
    code_sha256: str
    steps: int
    seconds: float
    device: str
    software: dict[str, str]
    mitoses_trained: int = 0
    own_threshold: float | None = None
    own_nuclei_level: float = 0.0
    own_atypical_threshold: float | None = None
    fields: tuple[FieldScore, ...] = ()
    types: TypeScores = TypeScores()

    @cached_property
    def images(self) -> tuple[ScoredField, ...]:
        """The fields as the metrics take them, candidates counted from their nuclei however low."""
        return tuple(field.scored() for field in self.fields)


def write_result(path: Path, result: RunResult) -> None:
    """Write a result, whole or not at all."""
    write_json(path, result.model_dump(mode="json"))


def read_result(path: Path) -> RunResult | None:
    """A result written before, or None.

    Raises
    ------
    DatasetError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return RunResult.model_validate(orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise DatasetError(
            f"The result {path} is damaged or of another version.", "Delete it: the run is made again."
        ) from error


def digest(value: Any) -> str:
    """SHA-256 of a plain value, independent of the order of keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
