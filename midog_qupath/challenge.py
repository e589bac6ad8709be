"""The MIDOG challenge's files: detections in millimetres, classes of stacked crops, and their ground truth.

Formats as in the challenge's evaluation of 2025 (MIDOG25_T1_evaluation_docker, MIDOG25_T2_evaluation_docker).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from midog_qupath import files
from midog_qupath.errors import FormatError
from midog_qupath.units import MATCH_RADIUS

FIGURES_FILE = "mitotic-figures.json"
CLASSES_FILE = "multiple-mitotic-figure-classification.json"
REGION_TYPES = ("hotspot", "random", "challenging")
_ABOVE, _BELOW = "mitotic figure", "non-mitotic figure"
_KINDS = ("normal", "atypical")
#: Millimetres: the challenge takes larger numbers for pixels, smaller ones for mistakes.
LARGEST_MM, _SMALLEST_MM = 10.0, -MATCH_RADIUS / 1000
_MM_REMEDY = "Give positions in millimetres: pixels times microns per pixel, divided by 1000."

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class FigurePoint:
    """A candidate at ``x``, ``y`` (millimetres), its mitosis probability, and whether above a threshold."""

    x: float
    y: float
    probability: float
    above: bool


@dataclass(frozen=True)
class CropClass:
    """What is said of one crop of a stack; ``confidence`` is the probability of being atypical."""

    atypical: bool
    confidence: float


@dataclass(frozen=True)
class FieldTruth:
    """Ground truth of one image: (x, y) in millimetres in the file's order, tumour domain, region type."""

    name: str
    points: tuple[tuple[float, float], ...]
    domain: str
    region_type: str


@dataclass(frozen=True)
class StackTruth:
    """Ground truth of one stack of crops: whether each is atypical, and its tumour domain."""

    name: str
    atypical: tuple[bool, ...]
    domains: tuple[str, ...]


def write_figures(path: Path, points: Iterable[FigurePoint]) -> None:
    """Write ``mitotic-figures.json``, whole or not at all."""
    listed = [
        {
            "name": _ABOVE if point.above else _BELOW,
            "point": [float(point.x), float(point.y), 0],
            "probability": float(point.probability),
        }
        for point in points
    ]
    version = {"major": 1, "minor": 0}
    files.write_json(
        path, {"name": "Points of interest", "type": "Multiple points", "points": listed, "version": version}
    )


def read_figures(path: Path, largest: tuple[float, float] = (LARGEST_MM, LARGEST_MM)) -> list[FigurePoint]:
    """Read ``mitotic-figures.json``; ``largest``: x and y in millimetres that no position can exceed.

    Raises
    ------
    FormatError
        If it is not such a file, or a point is broken, outside, or of an unknown name.
    """
    raw = _load(path)
    points = raw.get("points") if isinstance(raw, dict) else None
    if not isinstance(points, list):
        raise FormatError(
            f"{path} has no list of points.", f"Give a {FIGURES_FILE} as the MIDOG challenge wants it."
        )
    return _each(path, points, "point", lambda item: _figure(item, largest))


def _figure(item: Any, largest: tuple[float, float]) -> FigurePoint:
    if not isinstance(item, dict):
        raise ValueError("it is no object")
    missing = [key for key in ("name", "point", "probability") if key not in item]
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing")
    if item["name"] not in (_ABOVE, _BELOW):
        raise ValueError(f"its name is {item['name']!r}, not {_ABOVE!r} or {_BELOW!r}")
    x, y = _position(item["point"], largest)
    return FigurePoint(x, y, _probability(item["probability"], "probability"), item["name"] == _ABOVE)


def _position(raw: Any, largest: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(raw, list) or len(raw) < 2:
        raise ValueError("its point is no [x, y, 0]")
    x, y = (_number(value, "a coordinate") for value in raw[:2])
    if min(x, y) < _SMALLEST_MM or x > largest[0] or y > largest[1]:
        raise ValueError(f"[{x:g}, {y:g}] mm lies outside the image, as pixels would")
    return x, y


def write_classes(path: Path, classes: Iterable[CropClass]) -> None:
    """Write ``multiple-mitotic-figure-classification.json``, one entry a crop in the order of the stack."""
    files.write_json(
        path,
        [{"class": _KINDS[one.atypical], "confidence": float(one.confidence)} for one in classes],
    )


def read_classes(path: Path) -> list[CropClass]:
    """Read ``multiple-mitotic-figure-classification.json``.

    Raises
    ------
    FormatError
        If it is not such a file, or an entry is broken.
    """
    raw = _load(path)
    if not isinstance(raw, list):
        raise FormatError(
            f"{path} is no list of classes.", f"Give a {CLASSES_FILE} as the MIDOG challenge wants it."
        )
    return _each(path, raw, "entry", _class)


def _class(item: Any) -> CropClass:
    if not isinstance(item, dict) or "class" not in item or "confidence" not in item:
        raise ValueError("it has no class and confidence")
    return CropClass(_atypical(item["class"]), _probability(item["confidence"], "confidence"))


def read_truth(path: Path) -> list[FieldTruth] | list[StackTruth]:
    """Ground truth: of detection (an object, image by name) or of classification (a list of stacks).

    Raises
    ------
    FormatError
        If it is neither, or an image in it is broken.
    """
    raw = _load(path)
    if isinstance(raw, dict) and raw:
        return _each(path, list(raw.items()), "image", lambda item: _field(item[0], item[1]))
    if isinstance(raw, list) and raw:
        stacks = _each(path, raw, "stack", _stack)
        names = [stack.name for stack in stacks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise FormatError(f"{path} holds the stack {twice} twice.", "Keep one of them.")
        return stacks
    raise FormatError(
        f"{path} is no ground truth of the MIDOG challenge.",
        'Give {"image.tiff": {"annotations": [[x, y, 0]], "tumor domain": 0, "roi type": "hotspot"}}, '
        'or [{"image": "stack.tiff", "labels": ["normal"], "tumordomains": [1]}].',
    )


def _field(name: str, raw: Any) -> FieldTruth:
    if not isinstance(raw, dict) or not isinstance(raw.get("annotations"), list):
        raise ValueError("it has no list of annotations")
    region_type = raw.get("roi type")
    if region_type not in REGION_TYPES:
        raise ValueError(f"its roi type is {region_type!r}, none of {', '.join(REGION_TYPES)}")
    points = tuple(_position(point, (LARGEST_MM, LARGEST_MM)) for point in raw["annotations"])
    return FieldTruth(name, points, str(raw.get("tumor domain", "unknown")), region_type)


def _stack(raw: Any) -> StackTruth:
    if not isinstance(raw, dict) or not isinstance(raw.get("labels"), list) or "image" not in raw:
        raise ValueError("it has no image and labels")
    labels = tuple(_atypical(label) for label in raw["labels"])
    domains = raw.get("tumordomains", ["unknown"] * len(labels))
    if not isinstance(domains, list) or len(domains) != len(labels):
        raise ValueError(f"it has {len(labels)} labels and another number of tumordomains")
    return StackTruth(str(raw["image"]), labels, tuple(str(domain) for domain in domains))


def _atypical(said: Any) -> bool:
    if said not in _KINDS:
        raise ValueError(f"{said!r} is neither normal nor atypical")
    return bool(said == "atypical")


def _probability(value: Any, what: str) -> float:
    number = _number(value, f"its {what}")
    if not 0 <= number <= 1:
        raise ValueError(f"its {what} is {number:g}, not in 0 to 1")
    return number


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{what} is {value!r}, no number")
    return float(value)


def _each(path: Path, items: Sequence[Any], what: str, parse: Callable[[Any], Parsed]) -> list[Parsed]:
    parsed = []
    for number, item in enumerate(items):
        try:
            parsed.append(parse(item))
        except ValueError as error:
            raise FormatError(f"{path}, {what} {number}: {error}.", _remedy(error)) from error
    return parsed


def _remedy(error: ValueError) -> str:
    return _MM_REMEDY if "pixels" in str(error) else "Correct it."


def _load(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.", "Check the name.") from error
    except orjson.JSONDecodeError as error:
        raise FormatError(
            f"{path} is not JSON ({error}).", "NaN and Infinity are not JSON either."
        ) from error
