"""Nuclei, mitotic figures in their phases, and what is mistaken for them, as haematoxylin patches.

Mitotic chromatin is dark, without membrane, with a rough outline, in cleared cytoplasm; look-alikes are
as dark but smooth and round, or pale-rimmed; many normal nuclei are as dark as either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np

from midog_qupath.demo.canvas import Plane, Rng, blob

#: Side of a patch in pixels (20 µm).
PATCH = 80


def normal_nucleus(rng: Rng) -> Plane:
    """A nucleus with membrane, clumped chromatin and often a nucleolus; some are dark and dense."""
    axes = (rng.uniform(12, 18), rng.uniform(9, 13))
    angle = rng.uniform(0, np.pi)
    shape = blob(rng, PATCH, axes, angle, 0.03)
    rim = shape - blob(rng, PATCH, (axes[0] - 2, axes[1] - 2), angle, 0.0)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (PATCH, PATCH)).astype(np.float32), (0, 0), 1.6)
    level = rng.uniform(0.35, 0.75)
    texture = level * (1 + 0.9 * grain) + 0.25 * np.clip(rim, 0, 1)
    return np.asarray(np.clip(texture, 0.1, 1.6) * shape, dtype=np.float32)


def dark_nucleus(rng: Rng) -> Plane:
    """A lymphocyte, or a hyperchromatic nucleus: as dark as a mitosis, smooth, evenly stained."""
    lymphocyte = rng.random() < 0.6
    axes = (
        (rng.uniform(7.5, 10), rng.uniform(7, 9.5))
        if lymphocyte
        else (rng.uniform(11, 17), rng.uniform(6, 9))
    )
    shape = blob(rng, PATCH, axes, rng.uniform(0, np.pi), 0.02)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (PATCH, PATCH)).astype(np.float32), (0, 0), 2.0)
    return np.asarray(
        shape * np.clip(rng.uniform(0.95, 1.5) * (1 + 0.25 * grain), 0.6, 1.9), dtype=np.float32
    )


def _plate(rng: Rng, length: float, width: float, angle: float) -> Plane:
    return blob(rng, PATCH, (length, width), angle, 0.16) * np.float32(rng.uniform(1.1, 1.6))


def _moved(patch: Plane, dx: float, dy: float) -> Plane:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)
    return np.asarray(cv2.warpAffine(patch, matrix, (PATCH, PATCH)), dtype=np.float32)


def _side(angle: float, distance: float) -> tuple[float, float]:
    """Offset across a plate that lies at ``angle``."""
    return -np.sin(angle) * distance, np.cos(angle) * distance


def metaphase(rng: Rng) -> Plane:
    """One plate."""
    return _plate(rng, rng.uniform(12, 16), rng.uniform(3.5, 5.5), rng.uniform(0, np.pi))


def prometaphase(rng: Rng) -> Plane:
    """An irregular clump of chromosome arms."""
    patch = np.zeros((PATCH, PATCH), dtype=np.float32)
    for _ in range(int(rng.integers(6, 10))):
        arm = _plate(rng, rng.uniform(6, 10), rng.uniform(2.2, 3.4), rng.uniform(0, np.pi))
        patch = np.maximum(patch, _moved(arm, *rng.uniform(-6, 6, 2)))
    return patch


def anaphase(rng: Rng) -> Plane:
    """Two equal plates apart."""
    angle, apart = rng.uniform(0, np.pi), rng.uniform(8, 13)
    length, width = rng.uniform(10, 13), rng.uniform(3, 4.5)
    halves = [_moved(_plate(rng, length, width, angle), *_side(angle, s * apart)) for s in (-1, 1)]
    return np.maximum(*halves)


def asymmetric(rng: Rng) -> Plane:
    """Two plates of very different size."""
    angle, apart = rng.uniform(0, np.pi), rng.uniform(9, 13)
    large = _moved(_plate(rng, 14, 6, angle), *_side(angle, -apart))
    small = _moved(_plate(rng, 6, 3, angle), *_side(angle, apart))
    return np.maximum(large, small)


def multipolar(rng: Rng) -> Plane:
    """Three or four plates around a centre."""
    poles, start = int(rng.integers(3, 5)), rng.uniform(0, np.pi)
    patch = np.zeros((PATCH, PATCH), dtype=np.float32)
    for pole in range(poles):
        angle = start + 2 * np.pi * pole / poles
        arm = _plate(rng, 9, 3.4, angle)
        patch = np.maximum(patch, _moved(arm, 9 * np.cos(angle), 9 * np.sin(angle)))
    return patch


def bridging(rng: Rng) -> Plane:
    """Two plates with chromatin drawn out between them, or a piece left behind."""
    angle, apart = rng.uniform(0, np.pi), rng.uniform(10, 13)
    halves = [_moved(_plate(rng, 11, 4, angle), *_side(angle, s * apart)) for s in (-1, 1)]
    between = _plate(rng, apart, 1.8, angle + np.pi / 2 + rng.uniform(-0.2, 0.2))
    if rng.random() < 0.4:
        between = _moved(_plate(rng, 3, 2.5, angle), *rng.uniform(-3, 3, 2))
    return np.maximum(np.maximum(*halves), between)


def ring(rng: Rng) -> Plane:
    """A ring of chromatin with an empty middle."""
    outer = blob(rng, PATCH, (13, 12), 0.0, 0.10)
    inner = blob(rng, PATCH, (6, 5.5), 0.0, 0.10)
    return np.asarray((outer * (1 - inner)) * rng.uniform(1.1, 1.5), dtype=np.float32)


def pyknotic(rng: Rng) -> Plane:
    """A shrunken, round, smooth, very dark nucleus."""
    shape = blob(rng, PATCH, (rng.uniform(7, 10), rng.uniform(6.5, 9.5)), rng.uniform(0, np.pi), 0.0)
    return shape * np.float32(rng.uniform(1.3, 1.8))


def apoptotic(rng: Rng) -> Plane:
    """Several smooth dark balls."""
    patch = np.zeros((PATCH, PATCH), dtype=np.float32)
    for _ in range(int(rng.integers(2, 5))):
        radius = rng.uniform(3, 6)
        ball = blob(rng, PATCH, (radius, radius), 0.0, 0.0) * np.float32(rng.uniform(1.2, 1.7))
        patch = np.maximum(patch, _moved(ball, *rng.uniform(-9, 9, 2)))
    return patch


def crushed(rng: Rng) -> Plane:
    """A smear of chromatin: long, smooth, fading at its ends."""
    smear = blob(rng, PATCH, (rng.uniform(18, 26), rng.uniform(3.5, 5)), rng.uniform(0, np.pi), 0.0)
    blurred = np.asarray(cv2.GaussianBlur(smear, (0, 0), 1.8), dtype=np.float32)
    return blurred * np.float32(rng.uniform(1.2, 1.6))


Painter = Callable[[Rng], Plane]
NORMAL: Mapping[str, Painter] = MappingProxyType(
    {"metaphase": metaphase, "prometaphase": prometaphase, "anaphase": anaphase}
)
ATYPICAL: Mapping[str, Painter] = MappingProxyType(
    {"asymmetric": asymmetric, "multipolar": multipolar, "bridging": bridging, "ring": ring}
)
LOOK_ALIKES: Mapping[str, Painter] = MappingProxyType(
    {"pyknotic": pyknotic, "apoptotic": apoptotic, "crushed": crushed}
)
