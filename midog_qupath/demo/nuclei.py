"""Nuclei in interphase: those of the tumour, of the stroma, of lymphocytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from midog_qupath.demo.canvas import Grain, Patch, Plane, Rng, outline_distance, step

NucleusKind = Literal["granular", "vesicular", "hyperchromatic", "lymphocyte", "spindle"]
Range = tuple[float, float]


@dataclass(frozen=True)
class NucleusLook:
    """How nuclei of a kind look; ranges are drawn from evenly.

    ``radius``: mean half axis in pixels; ``length``: long by short axis; ``level``: concentration of
    haematoxylin; ``rim``: how much darker the membrane is; ``clumps``: contrast of the chromatin;
    ``nucleoli``: how many at most; ``softness`` of the edge in pixels.
    """

    radius: Range
    length: Range
    level: Range
    rim: float
    clumps: Range
    nucleoli: int
    softness: Range


LOOKS: Mapping[NucleusKind, NucleusLook] = MappingProxyType({
    "granular": NucleusLook((11.0, 17.0), (1.05, 1.6), (0.40, 0.72), 0.20, (0.18, 0.42), 2, (1.6, 3.5)),
    "vesicular": NucleusLook((13.0, 20.0), (1.0, 1.4), (0.22, 0.42), 0.38, (0.2, 0.45), 3, (1.4, 2.5)),
    "hyperchromatic": NucleusLook((9.0, 14.0), (1.0, 2.0), (0.90, 1.45), 0.10, (0.08, 0.2), 0, (1.5, 3.5)),
    "lymphocyte": NucleusLook((7.0, 9.5), (1.0, 1.25), (0.85, 1.35), 0.15, (0.2, 0.4), 0, (1.3, 2.0)),
    "spindle": NucleusLook((6.0, 8.5), (2.4, 4.5), (0.50, 1.05), 0.15, (0.1, 0.2), 0, (1.5, 2.5)),
})  # fmt: skip


def nucleus(rng: Rng, grain: Grain, kind: NucleusKind, angle: float) -> Patch:
    """A nucleus that lies along ``angle`` (radians)."""
    look = LOOKS[kind]
    radius, stretch = rng.uniform(*look.radius), np.sqrt(rng.uniform(*look.length))
    axes = (radius * stretch, radius / stretch)
    side = 2 * int(np.ceil(axes[0] * 1.15 + 4))
    distance = outline_distance(rng, side, axes, 0.12 if kind != "spindle" else 0.05, angle)
    inside = step(distance, rng.uniform(*look.softness))
    rim = np.exp(-np.square((distance + 1.6) / np.float32(1.3)))
    texture = grain.cut(rng, side, 1.8) * np.float32(0.7) + grain.cut(rng, side, 3.5) * np.float32(0.7)
    stained = 1 + texture * np.float32(rng.uniform(*look.clumps))
    level = np.float32(rng.uniform(*look.level))
    haematoxylin = np.clip(level * stained, 0.08, 2.0) + rim * np.float32(look.rim * rng.uniform(0.5, 1.2))
    for _ in range(int(rng.integers(0, look.nucleoli + 1))):
        haematoxylin += _nucleolus(rng, side, radius)
    eosin = np.full_like(inside, rng.uniform(0.12, 0.3)) * inside
    return Patch(inside, np.asarray(haematoxylin * inside, dtype=np.float32), eosin)


def _nucleolus(rng: Rng, side: int, radius: float) -> Plane:
    y, x = np.mgrid[:side, :side].astype(np.float32) - np.float32((side - 1) / 2)
    dx, dy = rng.normal(0, radius * 0.3, 2)
    squared = np.square(x - np.float32(dx)) + np.square(y - np.float32(dy))
    size = np.float32(rng.uniform(1.2, 2.4))
    return np.asarray(np.exp(-squared / (2 * size * size)) * rng.uniform(0.25, 0.55), dtype=np.float32)
