"""A field of H&E-like tissue with known mitoses and look-alikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

from midog_qupath.demo import cells
from midog_qupath.demo.canvas import Plane, Rng, Stain, blob, render, smooth_noise, stamp

FieldRole = Literal["normal", "atypical", "non_mitosis"]
#: Cells keep this far from each other, labelled ones this far from the border, in pixels.
_APART, _BORDER = 30.0, 34.0
_SHARES: tuple[tuple[FieldRole, float], ...] = (("normal", 0.4), ("atypical", 0.22), ("non_mitosis", 0.38))


@dataclass(frozen=True)
class FieldObject:
    """A mitotic figure or a look-alike; ``polygon`` = its chromatin's outline in pixels."""

    role: FieldRole
    phase: str
    polygon: Polygon


@dataclass(frozen=True)
class Field:
    """``image``: (h, w, 3) uint8 RGB."""

    image: NDArray[np.uint8]
    objects: tuple[FieldObject, ...]


@dataclass(frozen=True)
class _Tissue:
    haematoxylin: Plane
    eosin: Plane
    solid: NDArray[np.bool_]


def render_field(rng: Rng, size: int, stain: Stain, labelled: int) -> Field:
    """Draw a field.

    Parameters
    ----------
    rng
        Everything random comes from here: the same generator gives the same field.
    size
        Side in pixels (0.25 µm).
    stain
        Laboratory and scanner.
    labelled
        How many mitoses and look-alikes together.
    """
    tissue = _stroma(rng, size)
    spots = _places(rng, tissue.solid)
    central = [spot for spot in spots if min(spot) >= _BORDER and max(spot) <= size - _BORDER][:labelled]
    objects = [_figure(rng, tissue, *spot) for spot in central]
    for x, y in (spot for spot in spots if spot not in central):
        painter = cells.dark_nucleus if rng.random() < 0.22 else cells.normal_nucleus
        stamp(tissue.haematoxylin, painter(rng), x, y, "max")
    image = render(tissue.haematoxylin, tissue.eosin, stain, rng)
    return Field(image, tuple(thing for thing in objects if thing is not None))


def _stroma(rng: Rng, size: int) -> _Tissue:
    """Cytoplasm and fibres in eosin, white gaps."""
    fibres = np.abs(smooth_noise(rng, size, 14) + 0.6 * smooth_noise(rng, size, 40))
    eosin = 0.75 + 0.22 * smooth_noise(rng, size, 60) + 0.12 * smooth_noise(rng, size, 6) + 0.12 * fibres
    haematoxylin = 0.06 + 0.03 * np.abs(smooth_noise(rng, size, 9))
    gaps = 1 / (1 + np.exp(-(smooth_noise(rng, size, 90) - 1.5) * 12))
    return _Tissue(
        np.asarray(np.clip(haematoxylin * (1 - gaps), 0, None), dtype=np.float32),
        np.asarray(np.clip(eosin * (1 - 0.97 * gaps), 0.01, None), dtype=np.float32),
        np.asarray(gaps < 0.2),
    )


def _places(rng: Rng, solid: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Places in tissue, none nearer than 30 px to another, in random order."""
    size = solid.shape[0]
    chosen: list[tuple[float, float]] = []
    for x, y in rng.uniform(0, size, (int(size * size / 500), 2)):
        clear = all((x - a) ** 2 + (y - b) ** 2 >= _APART**2 for a, b in chosen)
        if clear and solid[int(y), int(x)]:
            chosen.append((float(x), float(y)))
    return chosen


def _figure(rng: Rng, tissue: _Tissue, x: float, y: float) -> FieldObject | None:
    roles, shares = zip(*_SHARES, strict=True)
    role: FieldRole = roles[int(rng.choice(len(roles), p=shares))]
    painters = {"normal": cells.NORMAL, "atypical": cells.ATYPICAL, "non_mitosis": cells.LOOK_ALIKES}[role]
    phase = list(painters)[int(rng.integers(len(painters)))]
    patch = painters[phase](rng)
    _cytoplasm(rng, tissue, x, y, role)
    stamp(tissue.haematoxylin, patch, x, y, "max")
    outline = _outline(patch, x, y)
    return FieldObject(role, phase, outline) if outline is not None else None


def _cytoplasm(rng: Rng, tissue: _Tissue, x: float, y: float, role: FieldRole) -> None:
    """A rounded, cleared cell around a mitosis; a shrunken, reddish one with a halo around a dying cell."""
    radius = rng.uniform(20, 26) if role != "non_mitosis" else rng.uniform(13, 18)
    cell = blob(rng, cells.PATCH, (radius, radius * rng.uniform(0.85, 1.0)), rng.uniform(0, np.pi), 0.02)
    stamp(tissue.haematoxylin, cell * np.float32(0.8), x, y, "fade")
    if role != "non_mitosis":
        stamp(tissue.eosin, cell * np.float32(rng.uniform(0.15, 0.4)), x, y, "fade")
        return
    if rng.random() < 0.6:
        halo = blob(rng, cells.PATCH, (radius + 4, radius + 4), 0.0, 0.02) - cell
        stamp(tissue.eosin, np.clip(halo, 0, 1) * np.float32(0.8), x, y, "fade")
    stamp(tissue.eosin, cell * np.float32(rng.uniform(0.9, 1.3)), x, y, "max")


def _outline(patch: Plane, x: float, y: float) -> Polygon | None:
    """Hull of the chromatin, in pixels of the field."""
    dark = (patch > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    hull = cv2.convexHull(np.concatenate(contours))[:, 0, :].astype(np.float64)
    shift = np.array([round(x), round(y)]) - patch.shape[0] // 2 + 0.5
    return Polygon(hull + shift) if len(hull) >= 3 else None
