"""How well masks and numbered nuclei fit drawn ones: Dice, intersection over union, AJI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.errors import EvaluationError

Mask = NDArray[np.bool_]
#: Pixels of a field numbered by object, 0 = none.
Instances = NDArray[np.integer[Any]]

_SUFFIX = "_instances.png"


@dataclass(frozen=True)
class NucleiField:
    """An image with every nucleus outlined by hand.

    ``image``: (height, width, 3) uint8 RGB. ``instances``: (height, width) int32, nuclei from 1.
    """

    name: str
    image: NDArray[np.uint8]
    instances: NDArray[np.int32]


@dataclass(frozen=True)
class MaskScore:
    """Agreement of numbered nuclei with those drawn: pixel Dice and aggregated Jaccard index, 0 to 1."""

    name: str
    dice: float
    aji: float


def iou(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty."""
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 1.0


def pixel_dice(one: Mask, other: Mask) -> float:
    """Dice coefficient 2|A & B| / (|A| + |B|) of two masks of one shape; 1 where both are empty."""
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else 1.0


def aggregated_jaccard(truth: Instances, predicted: Instances) -> float:
    """Aggregated Jaccard index of numbered objects (height, width), 0 = background; 1 where both are empty.

    Each true object is paired with the predicted one of the highest intersection over union; the
    intersections of all pairs are divided by their unions plus the true objects without a partner plus the
    predicted objects never taken. One predicted object may be the partner of several true ones, and is
    then counted each time. Kumar et al., IEEE Trans Med Imaging 36 (2017) 1550-1560, algorithm 1.
    """
    overlap = _overlaps(truth, predicted)
    true_areas = overlap.sum(axis=1)[1:]
    areas = overlap.sum(axis=0)[1:]
    shared = overlap[1:, 1:]
    if not len(true_areas) or not len(areas):
        return float(len(true_areas) == len(areas))
    unions = true_areas[:, None] + areas[None, :] - shared
    best = np.argmax(shared / unions, axis=1)
    rows = np.arange(len(best))
    matched = shared[rows, best] > 0
    unused = np.setdiff1d(np.arange(len(areas)), best[matched])
    union = unions[rows, best][matched].sum() + true_areas[~matched].sum() + areas[unused].sum()
    return float(shared[rows, best].sum() / union)


def _overlaps(truth: Instances, predicted: Instances) -> NDArray[np.int64]:
    """(1 + true objects, 1 + predicted objects) shared pixels; row and column 0 are the background."""
    first, second = _dense(truth), _dense(predicted)
    shape = (int(first.max(initial=0)) + 1, int(second.max(initial=0)) + 1)
    joint = np.bincount((first * shape[1] + second).ravel(), minlength=shape[0] * shape[1])
    return joint.reshape(shape)


def _dense(numbers: Instances) -> NDArray[np.int64]:
    """The same objects numbered without gaps."""
    present = np.unique(numbers)
    present = present[present > 0]
    return np.where(numbers > 0, np.searchsorted(present, numbers) + 1, 0).astype(np.int64)


def score_nuclei(field: NucleiField, predicted: Instances) -> MaskScore:
    """How well numbered nuclei (height, width) fit those of a field."""
    return MaskScore(
        name=field.name,
        dice=pixel_dice(field.instances > 0, predicted > 0),
        aji=aggregated_jaccard(field.instances, predicted),
    )


def read_nuclei(folder: Path) -> list[NucleiField]:
    """The fields of a folder of ``NAME.png`` and ``NAME_instances.png`` (uint16), by name.

    Raises
    ------
    EvaluationError
        If there are none, or an image and its instances do not fit.
    """
    files = sorted(folder.glob(f"*{_SUFFIX}"))
    if not files:
        raise EvaluationError(
            f"{folder} holds no outlined nuclei.", f"Give a folder of NAME.png and NAME{_SUFFIX}."
        )
    return [_read_field(file) for file in files]


def _read_field(file: Path) -> NucleiField:
    name = file.name.removesuffix(_SUFFIX)
    image = _decode(file.with_name(f"{name}.png"), cv2.IMREAD_COLOR)
    instances = _decode(file, cv2.IMREAD_UNCHANGED)
    if instances.ndim != 2 or instances.shape != image.shape[:2]:
        raise EvaluationError(f"{file} does not fit {name}.png.", "Copy both files anew.")
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)
    return NucleiField(name, rgb, instances.astype(np.int32))


def _decode(file: Path, flags: int) -> NDArray[Any]:
    # Not cv2.imread: it cannot read paths with other letters than ASCII on Windows.
    raw = np.frombuffer(file.read_bytes(), dtype=np.uint8) if file.is_file() else np.empty(0, dtype=np.uint8)
    image = cv2.imdecode(raw, flags) if raw.size else None
    if image is None:
        raise EvaluationError(f"{file} is missing or no image.", "Copy the file anew.")
    return np.asarray(image)
