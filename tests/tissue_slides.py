"""Generated thumbnails of slides, with the truth about where tissue lies."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

#: Microns of a pixel.
PIXEL_UM = 8.0
HEIGHT, WIDTH = 500, 800
INKS = {"blue": (35, 60, 165), "green": (20, 120, 60), "black": (25, 25, 28), "red": (205, 25, 35)}
#: What light passes through: optical density of red, green, blue.
STAINS = {"haematoxylin": (0.65, 0.70, 0.29), "eosin": (0.07, 0.99, 0.11)}


@dataclass(frozen=True)
class Generated:
    """``pixels`` (H, W, 3) uint8; ``tissue``, ``glass`` (H, W) bool, disjoint; edges are neither."""

    pixels: np.ndarray
    tissue: np.ndarray
    glass: np.ndarray


def generated_slide(seed: int) -> Generated:
    """Stroma, cells, fat and pale pieces on tinted, unevenly lit glass with pens, dust, black borders."""
    rng = np.random.default_rng(seed)
    density = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    tissue = np.zeros((HEIGHT, WIDTH), np.uint8)
    for kind in ("dense", "pale", "fat")[: 1 + seed % 3] * (1 + seed % 2):
        piece = _blob(rng)
        tissue |= piece
        density += piece[..., None] * _texture(rng, kind)
    light = 1 - 0.04 * cv2.resize(rng.random((4, 5)).astype(np.float32), (WIDTH, HEIGHT))
    glass = np.array([244, 241, 243]) - rng.integers(0, 12, 3)
    pixels = glass * light[..., None] * np.exp(-density)
    pixels = cv2.GaussianBlur(pixels, (0, 0), 0.7)
    dirt = _dust(rng, pixels) | (_pen(rng, pixels, list(INKS)[seed % 4]) if seed % 5 else 0)
    if seed % 3 == 1:
        pixels[:, : int(rng.integers(15, 60))] = 0
        pixels[-int(rng.integers(10, 30)) :] = 0
    pixels = np.clip(pixels + rng.normal(0, 1.5, pixels.shape), 0, 255).astype(np.uint8)
    pixels = cv2.imdecode(cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 1)
    # Under ink or outside the scan nobody sees anything; dirt on glass is glass all the same.
    hidden = cv2.dilate(np.asarray(dirt, np.uint8), np.ones((9, 9), np.uint8)) > 0
    hidden |= cv2.dilate((pixels.max(axis=2) < 20).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    near = cv2.dilate(tissue, np.ones((25, 25), np.uint8)) > 0
    return Generated(np.ascontiguousarray(pixels[..., ::-1]), (tissue > 0) & ~hidden, ~near)


def _blob(rng: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 20)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    x, y = rng.uniform(180, WIDTH - 180), rng.uniform(120, HEIGHT - 120)
    distance = np.hypot((columns - x) / rng.uniform(1, 1.8), rows - y) / rng.uniform(60, 110)
    return (distance + noise / noise.std() * 0.12 < 1).astype(np.uint8)


def _texture(rng: np.random.Generator, kind: str) -> np.ndarray:
    """(H, W, 3) density of a tissue that reaches everywhere."""
    grain = rng.random((HEIGHT, WIDTH)).astype(np.float32)
    cells = cv2.GaussianBlur(grain, (0, 0), 1.2)
    cells = np.clip((cells - cells.mean()) / cells.std(), 0, 3) * 0.25
    stain = 0.25 + 0.15 * cv2.resize(rng.random((30, 50)).astype(np.float32), (WIDTH, HEIGHT))
    if kind == "pale":
        stain, cells = stain * 0.22, cells * 0.12
    if kind == "fat":
        wall = _fat_walls(rng)
        stain, cells = wall * 0.35, cells * wall * 0.5
    return stain[..., None] * np.float32(STAINS["eosin"]) + cells[..., None] * np.float32(
        STAINS["haematoxylin"]
    )


def _fat_walls(rng: np.random.Generator) -> np.ndarray:
    """(H, W) 1 on the walls, one pixel or less wide, of fat cells of 80 to 120 µm."""
    seeds = np.ones((HEIGHT, WIDTH), np.uint8)
    for y in range(0, HEIGHT, 12):
        for x in range(0, WIDTH, 12):
            at = np.clip((y + rng.integers(-3, 4), x + rng.integers(-3, 4)), 0, (HEIGHT - 1, WIDTH - 1))
            seeds[at[0], at[1]] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5)
    edge = (labels != np.roll(labels, 1, 0)) | (labels != np.roll(labels, 1, 1))
    return edge.astype(np.float32)


def _dust(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    mark = np.zeros(pixels.shape[:2], np.uint8)
    for _ in range(30):
        at = (int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT)))
        cv2.circle(mark, at, int(rng.integers(0, 4)), 1, -1)
    pixels[mark > 0] = rng.uniform(60, 190)
    return mark


def _pen(rng: np.random.Generator, pixels: np.ndarray, ink: str) -> np.ndarray:
    mark = np.zeros(pixels.shape[:2], np.uint8)
    points = rng.integers((0, 0), (WIDTH, HEIGHT), (5, 2))
    cv2.polylines(mark, [points], False, 1, thickness=int(rng.integers(15, 50)))
    soft = cv2.GaussianBlur(mark.astype(np.float32), (0, 0), 1.5)[..., None]
    pixels[:] = pixels * (1 - soft) + soft * np.array(INKS[ink]) * rng.uniform(0.9, 1.1)
    return mark
