"""What lies around the nuclei: nests of tumour, fibrous stroma, gaps, red blood cells; cytoplasm of cells."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.demo.canvas import Canvas, Grain, Patch, Plane, Rng, outline_distance, smooth_noise, step


@dataclass(frozen=True)
class Ground:
    """Where a field is tumour, stroma and empty: planes (size, size) of 0..1 that sum to 1.

    ``fibres``: which way the fibres of the stroma run, in radians.
    """

    tumour: Plane
    stroma: Plane
    gap: Plane
    fibres: float


def lay_out(rng: Rng, size: int) -> Ground:
    """Nests of tumour in bands of stroma; gaps where tissue tore, and fat."""
    nests = smooth_noise(rng, size, 110) + 0.35 * smooth_noise(rng, size, 30)
    stroma = step(np.asarray((nests + rng.uniform(0.35, 1.0)) * 20, dtype=np.float32), 12)
    torn = smooth_noise(rng, size, 70) + 0.25 * smooth_noise(rng, size, 15) + 0.5 * np.abs(nests + 0.7)
    gap = step(np.asarray((torn + rng.uniform(1.1, 1.6)) * 16, dtype=np.float32), 5)
    for _ in range(rng.poisson(2.5 * (size / 512) ** 2)):
        _vacuole(rng, gap)
    return Ground((1 - stroma) * (1 - gap), stroma * (1 - gap), gap, rng.uniform(0, np.pi))


def _vacuole(rng: Rng, gap: Plane) -> None:
    """A round hole, put into the plane of gaps."""
    radius = rng.uniform(8, 34)
    side = 2 * int(radius * 1.5 + 4)
    hole = step(outline_distance(rng, side, (radius, radius * rng.uniform(0.7, 1.0)), 0.1), 2.5)
    canvas = Canvas(gap, np.zeros_like(gap))
    x, y = rng.integers(0, gap.shape[0], 2)
    canvas.put(Patch(hole, hole, np.zeros_like(hole)), int(x), int(y))


def paint(rng: Rng, ground: Ground) -> Canvas:
    """The tissue of a field without its nuclei."""
    size = ground.gap.shape[0]
    fine, middle = smooth_noise(rng, size, 2.0), smooth_noise(rng, size, 7.0)
    slow = smooth_noise(rng, size, 60)
    fibres = _fibres(rng, size, ground.fibres)
    eosin = ground.tumour * (0.42 + 0.035 * fine + 0.05 * middle + 0.05 * slow)
    eosin += ground.stroma * np.clip(0.45 + 0.11 * fibres + 0.07 * slow, 0.05, 1.2)
    haematoxylin = ground.tumour * (0.15 + 0.025 * fine + 0.03 * middle)
    haematoxylin += ground.stroma * np.clip(0.05 + 0.04 * fibres, 0, 1)
    # Where tissue ends against a gap it is folded and darker.
    edge = np.clip(cv2.GaussianBlur(ground.gap, (0, 0), 3.0) * (1 - ground.gap) * 4, 0, 1)
    eosin += 0.25 * edge
    haematoxylin += 0.05 * edge
    return Canvas(_positive(haematoxylin), _positive(eosin + 0.015 * ground.gap))


def _positive(plane: Plane) -> Plane:
    return np.asarray(np.maximum(plane, 0), dtype=np.float32)


def _fibres(rng: Rng, size: int, angle: float) -> Plane:
    """Wavy fibres: noise drawn out in one direction, then bent."""
    side = int(size * 1.7)
    # Eight times coarser along the fibres than across them.
    raw = rng.standard_normal((side, side // 8), dtype=np.float32)
    raw = cv2.GaussianBlur(raw, (0, 0), 30 / 8, sigmaY=1.3)
    raw = raw / (raw.std() + 1e-6)
    y, x = np.mgrid[:size, :size].astype(np.float32) - np.float32(size / 2)
    bend_x, bend_y = (smooth_noise(rng, size, 120) * np.float32(18) for _ in range(2))
    u, v = x + bend_x, y + bend_y
    columns = ((u * np.cos(angle) + v * np.sin(angle) + side / 2) / 8).astype(np.float32)
    rows = (v * np.cos(angle) - u * np.sin(angle) + side / 2).astype(np.float32)
    bent = cv2.remap(raw, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(bent, dtype=np.float32)


def divide_cells(rng: Rng, canvas: Canvas, ground: Ground, centres: NDArray[np.int64]) -> None:
    """Borders between tumour cells, and cytoplasm a little different in each; centres (n, 2) x, y."""
    size = ground.gap.shape[0]
    seeds = np.full((size, size), 255, dtype=np.uint8)
    seeds[centres[:, 1], centres[:, 0]] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    warp = smooth_noise(rng, size, 14) * np.float32(2.5)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    shades = rng.normal(0, 1, int(labels.max()) + 1).astype(np.float32)[labels]
    shades = cv2.remap(shades, x + warp, y - warp, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    border = np.clip(np.abs(cv2.Laplacian(shades, cv2.CV_32F)) * 6, 0, 1)
    border = cv2.GaussianBlur(border, (0, 0), 1.0) * ground.tumour
    open_border = np.clip(smooth_noise(rng, size, 25), -1.5, 1.5)
    canvas.eosin[:] = _positive(canvas.eosin + ground.tumour * shades * 0.05 - border * open_border * 0.12)
    canvas.haematoxylin[:] = _positive(
        canvas.haematoxylin + ground.tumour * shades * 0.02 - border * np.maximum(open_border, 0) * 0.08
    )


def cleared_cell(rng: Rng, grain: Grain, side: int, radius: float) -> Patch:
    """The rounded, often cleared cell of a mitosis."""
    axes = (radius * rng.uniform(1.0, 1.2), radius * rng.uniform(0.85, 1.0))
    distance = outline_distance(rng, side, axes, 0.06)
    cover = step(distance, 3.0)
    grains = grain.cut(rng, side, 1.0) * np.float32(rng.uniform(0.02, 0.06))
    border = np.exp(-np.square(distance / np.float32(1.4))) * np.float32(rng.uniform(0, 0.12))
    eosin = cover * (np.float32(rng.uniform(0.18, 0.46)) + grains) + border
    haematoxylin = cover * (np.float32(rng.uniform(0.03, 0.16)) + grains)
    return Patch(cover, _positive(haematoxylin), _positive(eosin))


def dying_cell(rng: Rng, grain: Grain, side: int, radius: float) -> Patch:
    """The shrunken, eosinophilic cell of apoptosis, often in a halo."""
    distance = outline_distance(rng, side, (radius, radius * rng.uniform(0.75, 1.0)), 0.08)
    cell = step(distance, 2.0)
    halo = step(distance - np.float32(rng.uniform(2, 5)), 2.5) if rng.random() < 0.4 else cell
    eosin = cell * (np.float32(rng.uniform(0.4, 0.8)) + grain.cut(rng, side, 1.8) * np.float32(0.04))
    return Patch(
        halo, _positive(cell * np.float32(0.08)), _positive(eosin + (halo - cell) * np.float32(0.06))
    )


def red_cell(rng: Rng, side: int) -> Patch:
    """A red blood cell: eosin only."""
    distance = outline_distance(rng, side, (rng.uniform(9, 12), rng.uniform(7, 11)), 0.06)
    cell = step(distance, 2.0)
    eosin = cell * np.float32(rng.uniform(0.65, 0.95)) * (1 + np.clip(distance, -8, 0) * np.float32(0.02))
    return Patch(cell, np.zeros_like(cell), _positive(eosin))
