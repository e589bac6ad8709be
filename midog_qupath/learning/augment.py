"""Augmentation of a training tile: geometry first, then stain, optics and compression.

The same for every source: otherwise the compression of one source would tell its class.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.chance import Rng
from midog_qupath.learning.recipe import AugmentationRecipe
from midog_qupath.learning.stain import restained, stain_matrix


@dataclass(frozen=True)
class Placement:
    """A similarity transform from source pixels to tile pixels: ``tile = matrix @ (x, y, 1)``, (2, 3)."""

    matrix: NDArray[np.float64]
    size: int

    @property
    def scale(self) -> float:
        """Tile pixels per source pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    def apply(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tile positions (N, 2) of source positions (N, 2)."""
        return np.asarray(xy @ self.matrix[:, :2].T + self.matrix[:, 2], dtype=np.float64)

    def seen_from(self, origin: tuple[float, float]) -> Placement:
        """The same placement for a window of the source that starts at ``origin`` (x, y)."""
        matrix = self.matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ np.asarray(origin, dtype=np.float64)
        return Placement(matrix, self.size)

    def bounds(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) of the source pixels that the tile shows."""
        corners = np.array([[0, 0], [self.size, 0], [self.size, self.size], [0, self.size]], dtype=np.float64)
        source = np.linalg.solve(self.matrix[:, :2], (corners - self.matrix[:, 2]).T)
        (x0, y0), (x1, y1) = source.min(axis=1), source.max(axis=1)
        return float(x0), float(y0), float(x1), float(y1)


def place(rng: Rng, centre: tuple[float, float], size: int, recipe: AugmentationRecipe) -> Placement:
    """Random flip, rotation, scale and shift that put the source position (x, y) near the tile's centre."""
    angle = rng.uniform(0, 2 * np.pi) if recipe.rotate else 0.0
    scale = float(np.exp(rng.uniform(*np.log(recipe.scale))))
    mirror = -1.0 if recipe.flip and rng.random() < 0.5 else 1.0
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    shift = rng.uniform(-recipe.shift_px, recipe.shift_px, size=2)
    offset = size / 2 + shift - linear @ np.array(centre)
    return Placement(np.column_stack([linear, offset]), size)


def warp(image: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Tile of an image (h, w, 3) uint8, mirrored where it reaches past the border."""
    return np.asarray(
        cv2.warpAffine(
            image,
            _pixel_centres(placement.matrix),
            (placement.size, placement.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def warp_labels(labels: NDArray[np.uint8], placement: Placement, outside: int) -> NDArray[np.uint8]:
    """Tile of a label map (h, w), ``outside`` where it reaches past the border."""
    return np.asarray(
        cv2.warpAffine(
            labels,
            _pixel_centres(placement.matrix),
            (placement.size, placement.size),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(outside,),
        )
    )


def _pixel_centres(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    # Our coordinates count from a pixel's corner, OpenCV's from its centre.
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return shifted


def recolour(rng: Rng, tile: NDArray[np.uint8], recipe: AugmentationRecipe) -> NDArray[np.uint8]:
    """Stain, brightness, sharpness, noise and compression of a tile (h, w, 3) uint8."""
    result = _restain(rng, tile, recipe.stain) if recipe.stain else tile.astype(np.float32)
    if recipe.brightness:
        # Plain numbers: one of numpy's own would make the whole tile float64.
        gain, lift = rng.uniform(-recipe.brightness, recipe.brightness, size=2).tolist()
        result *= 1 + gain
        result += 255 * lift - 128 * gain
    if recipe.sharpen and rng.random() < 0.3:
        # Scanners sharpen, some a lot.
        softer = cv2.GaussianBlur(result, (0, 0), rng.uniform(0.7, 2.0))
        share = rng.uniform(0.2, recipe.sharpen)
        result = cv2.addWeighted(result, 1 + share, softer, -share, 0)
    elif recipe.blur and rng.random() < 0.4:
        result = cv2.GaussianBlur(result, (0, 0), rng.uniform(0.2, recipe.blur))
    if recipe.noise and rng.random() < 0.5:
        deviation = rng.uniform(0, recipe.noise)
        noise = rng.standard_normal(result.shape, dtype=np.float32)
        result = cv2.addWeighted(result, 1, noise, deviation, 0)
    tile = np.clip(result, 0, 255, out=result).astype(np.uint8)
    if recipe.jpeg and rng.random() < recipe.jpeg:
        tile = _compress(tile, int(rng.integers(40, 95)))
    return tile


def _restain(rng: Rng, tile: NDArray[np.uint8], strength: float) -> NDArray[np.float32]:
    """Other amounts of each stain, and slightly other dyes (the stain vectors turn); (h, w, 3) 0 to 255."""
    amounts = np.exp(rng.normal(0, strength, size=3))
    vectors = stain_matrix() + rng.normal(0, 0.12 * strength, size=(3, 3))
    return restained(tile, amounts, vectors)


def _compress(tile: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", tile[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return decoded[..., ::-1]
