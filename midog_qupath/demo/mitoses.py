"""Mitotic figures: chromosomes drawn one by one, in phases as pathologists name them.

Condensed chromatin without a membrane, with a rough outline of chromosome arms. Normal: prometaphase,
ring (seen from the pole), metaphase, anaphase, telophase. Atypical: asymmetric, multipolar, bridging,
lagging, dispersed (Donovan et al., Vet Pathol 58 (2021) 243-257).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

from midog_qupath.demo.canvas import Grain, Patch, Rng

#: Side of a figure's patch in pixels, and how much finer it is drawn.
SIDE, _FINER = 96, 4
_SHIFT = 4


@dataclass(frozen=True)
class Arms:
    """Chromosome arms: ``ends`` (n, 2, 2) start and end, x, y in pixels from the middle; ``widths`` (n,)."""

    ends: NDArray[np.float64]
    widths: NDArray[np.float64]

    def moved(self, angle: float, dx: float = 0.0, dy: float = 0.0) -> Arms:
        """Turned by ``angle`` (radians), then moved."""
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return Arms(self.ends @ turn + np.array([dx, dy]), self.widths)


def together(parts: Sequence[Arms]) -> Arms:
    """Several figures as one."""
    return Arms(np.concatenate([p.ends for p in parts]), np.concatenate([p.widths for p in parts]))


def _arms(rng: Rng, middles: NDArray[np.float64], angles: NDArray[np.float64], length: float) -> Arms:
    """Arms of about ``length`` through the given points; angles scatter as arms do."""
    angles = angles + rng.normal(0, 0.42, len(angles))
    halves = length / 2 * rng.uniform(0.55, 1.35, len(angles))
    offsets = np.stack([np.cos(angles), np.sin(angles)], axis=1) * halves[:, None]
    return Arms(np.stack([middles - offsets, middles + offsets], axis=1), rng.uniform(2.0, 3.6, len(angles)))


def plate(rng: Rng, length: float, thickness: float) -> Arms:
    """A plate along x: arms stand across it, a few stick out."""
    count = max(5, int(length * 1.1))
    along = np.linspace(-0.5, 0.5, count) * length + rng.normal(0, 0.5, count)
    bend = rng.normal(0, 0.008) * length
    across = bend * (np.square(along / length * 2) - 0.4) + rng.normal(0, thickness * 0.12, count)
    middles = np.stack([along, across], axis=1)
    return _arms(rng, middles, np.full(count, np.pi / 2), thickness)


def prometaphase(rng: Rng) -> Arms:
    """A clump of chromosomes in no order."""
    count = int(rng.integers(18, 32))
    radius, angles = np.sqrt(rng.random(count)) * rng.uniform(6.5, 10.5), rng.uniform(0, 2 * np.pi, count)
    middles = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.6, 1.0)], axis=1) * radius[:, None]
    return _arms(rng, middles, rng.uniform(0, np.pi, count), rng.uniform(5.5, 8.0))


def ring(rng: Rng) -> Arms:
    """Chromosomes around an empty middle; sometimes the ring is open."""
    count = int(rng.integers(18, 26))
    angles = np.linspace(0, 2 * np.pi * rng.uniform(0.8, 1.0), count)
    radius = rng.uniform(7.5, 10.5) + rng.normal(0, 0.6, count)
    middles = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.8, 1.0)], axis=1) * radius[:, None]
    return _arms(rng, middles, angles, 5.0)


def metaphase(rng: Rng) -> Arms:
    """One plate seen from the side."""
    return plate(rng, rng.uniform(19, 31), rng.uniform(5.0, 8.5))


def _pair(rng: Rng, lengths: tuple[float, float], thickness: float, apart: float) -> Arms:
    sides = []
    for length, side in zip(lengths, (-1, 1), strict=True):
        tilt = rng.normal(0, 0.1)
        sides.append(plate(rng, length, thickness).moved(tilt, rng.normal(0, 1.2), side * apart / 2))
    return together(sides)


def anaphase(rng: Rng) -> Arms:
    """Two equal plates on their way apart."""
    length = rng.uniform(16, 24)
    return _pair(rng, (length, length * rng.uniform(0.9, 1.1)), rng.uniform(4.5, 6.5), rng.uniform(13, 21))


def telophase(rng: Rng) -> Arms:
    """Two equal, compact plates far apart."""
    length = rng.uniform(13, 19)
    return _pair(rng, (length, length * rng.uniform(0.9, 1.1)), rng.uniform(5.0, 7.5), rng.uniform(24, 34))


def asymmetric(rng: Rng) -> Arms:
    """Two plates of very different size."""
    length = rng.uniform(19, 26)
    return _pair(rng, (length, length * rng.uniform(0.28, 0.5)), rng.uniform(5.0, 8.0), rng.uniform(14, 26))


def multipolar(rng: Rng) -> Arms:
    """Three or four plates that meet in the middle, or lie around it."""
    poles = int(rng.integers(3, 5))
    length, inner = rng.uniform(11, 15), rng.uniform(0.8, 4.0)
    turns = np.arange(poles) * 2 * np.pi / poles + rng.normal(0, 0.2, poles)
    reach = inner + length / 2
    return together([
        plate(rng, length, rng.uniform(4.5, 6.5)).moved(turn, reach * np.cos(turn), reach * np.sin(turn))
        for turn in turns
    ])  # fmt: skip


def bridging(rng: Rng) -> Arms:
    """Two plates with chromatin drawn out between them."""
    length, apart = rng.uniform(16, 22), rng.uniform(16, 26)
    count = int(rng.integers(1, 3))
    starts, ends = rng.uniform(-0.35, 0.35, (2, count)) * length
    bridges = np.stack(
        [np.stack([starts, np.full(count, -apart / 2)], 1), np.stack([ends, np.full(count, apart / 2)], 1)], 1
    )
    return together([
        _pair(rng, (length, length), rng.uniform(4.5, 6.5), apart),
        Arms(bridges, rng.uniform(1.6, 2.8, count)),
    ])  # fmt: skip


def lagging(rng: Rng) -> Arms:
    """Two plates with chromosomes left behind between them."""
    length, apart, count = rng.uniform(16, 22), rng.uniform(18, 27), int(rng.integers(2, 5))
    middles = rng.uniform(-0.5, 0.5, (count, 2)) * np.array([length, apart * 0.45])
    left = _arms(rng, middles, rng.uniform(0, np.pi, count), 3.0)
    return together([_pair(rng, (length, length), rng.uniform(4.5, 6.5), apart), left])


def dispersed(rng: Rng) -> Arms:
    """A plate with chromosomes scattered far from it."""
    count = int(rng.integers(4, 9))
    angles, radius = rng.uniform(0, 2 * np.pi, count), rng.uniform(10, 17, count)
    middles = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    away = _arms(rng, middles, rng.uniform(0, np.pi, count), 3.0)
    return together([plate(rng, rng.uniform(15, 22), rng.uniform(5, 8)), away])


Phase = Callable[[Rng], Arms]
#: How often each phase is met.
NORMAL: Mapping[Phase, float] = MappingProxyType(
    {prometaphase: 0.32, ring: 0.08, metaphase: 0.36, anaphase: 0.14, telophase: 0.10}
)
ATYPICAL: Mapping[Phase, float] = MappingProxyType(
    {asymmetric: 0.22, multipolar: 0.26, bridging: 0.18, lagging: 0.18, dispersed: 0.16}
)


def figure(rng: Rng, grain: Grain, phase: Phase) -> tuple[Patch, Polygon]:
    """The chromatin of a mitotic figure, turned at random, and its outline in pixels from the middle."""
    arms = phase(rng).moved(rng.uniform(0, 2 * np.pi))
    fine = _drawn(arms)
    cover = np.asarray(cv2.resize(fine, (SIDE, SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)
    # Some figures lie a little above or below the focal plane.
    cover = np.asarray(cv2.GaussianBlur(cover / 255, (0, 0), rng.choice([0.5, 0.7, 1.1])), dtype=np.float32)
    level = np.float32(rng.uniform(0.85, 1.4))
    haematoxylin = level * np.clip(1 + grain.cut(rng, SIDE, 1.8) * np.float32(0.12), 0.6, 1.4) * cover
    eosin = np.asarray(cover * rng.uniform(0.1, 0.3), dtype=np.float32)
    return Patch(cover, np.asarray(haematoxylin, dtype=np.float32), eosin), _outline(fine)


def _drawn(arms: Arms) -> NDArray[np.uint8]:
    """Coverage 0..255, drawn finer than the patch."""
    plane = np.zeros((SIDE * _FINER, SIDE * _FINER), dtype=np.uint8)
    fixed = np.rint((arms.ends + SIDE / 2) * _FINER * 2**_SHIFT).astype(int)
    for (start, end), width in zip(fixed.tolist(), arms.widths.tolist(), strict=True):
        cv2.line(plane, start, end, 255, max(1, round(width * _FINER)), cv2.LINE_AA, _SHIFT)
    return plane


def _outline(fine: NDArray[np.uint8]) -> Polygon:
    """Outline of one piece of chromatin, hull of several, in pixels from the middle."""
    closing = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (4 * _FINER + 1, 4 * _FINER + 1))
    closed = cv2.morphologyEx(fine, cv2.MORPH_CLOSE, closing)
    contours, _ = cv2.findContours((closed > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = contours[0] if len(contours) == 1 else cv2.convexHull(np.concatenate(contours))
    outline = Polygon(corners[:, 0, :].astype(np.float64) / _FINER - SIDE / 2)
    return Polygon(outline.simplify(0.4).buffer(0.5, quad_segs=2).exterior)
