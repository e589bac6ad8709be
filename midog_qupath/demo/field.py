"""A field of H&E-like tissue, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry import Polygon

from midog_qupath.demo import look_alikes, mitoses
from midog_qupath.demo.canvas import Canvas, Grain, Plane, Rng
from midog_qupath.demo.nuclei import NucleusKind, nucleus
from midog_qupath.demo.stain import Stain, exposed
from midog_qupath.demo.tissue import Ground, cleared_cell, divide_cells, dying_cell, lay_out, paint, red_cell

FieldRole = Literal["normal", "atypical", "non_mitosis"]
#: Labelled objects keep this far from the border, in pixels.
BORDER = 36
#: Objects of a kind on 512 x 512 pixels.
MITOSES, LOOK_ALIKES, DARK_NUCLEI, LYMPHOCYTE_NESTS = 4.5, 6.0, 9.0, 2.0
_ATYPICAL_SHARE = 0.3
_TRIES = 48
#: Largest radius that is ever asked for.
_REACH = 30


@dataclass(frozen=True)
class FieldObject:
    """A mitotic figure or a look-alike; ``phase``: which; ``polygon``: outline of its chromatin in pixels."""

    role: FieldRole
    phase: str
    polygon: Polygon


@dataclass(frozen=True)
class Field:
    """``image``: (size, size, 3) uint8 RGB."""

    image: NDArray[np.uint8]
    objects: tuple[FieldObject, ...]


class _Places:
    """Where there is room left: circles that do not overlap. ``room``: pixels to the nearest circle."""

    def __init__(self, rng: Rng, size: int) -> None:
        self._rng = rng
        self._room = np.full((size, size), _REACH, dtype=np.float32)

    def take(self, x: int, y: int, radius: float) -> None:
        """Nothing else comes here."""
        reach = int(radius + _REACH)
        top, left = max(y - reach, 0), max(x - reach, 0)
        window = self._room[top : y + reach + 1, left : x + reach + 1]
        rows, columns = np.ogrid[: window.shape[0], : window.shape[1]]
        away = np.sqrt(np.square(rows - (y - top)) + np.square(columns - (x - left)), dtype=np.float32)
        np.minimum(window, away - np.float32(radius), out=window)

    def free(self, x: int, y: int, radius: float) -> bool:
        """Whether a circle fits here."""
        return bool(self._room[y, x] >= radius)

    def find(self, ground: Plane, radius: float, border: int = 0) -> tuple[int, int] | None:
        """A free place on ``ground`` (0..1, how likely), taken at once; None after many tries."""
        spots = self._rng.integers(border, self._room.shape[0] - border, (_TRIES, 2))
        x, y = spots[:, 0], spots[:, 1]
        good = (self._room[y, x] >= radius) & (ground[y, x] > np.maximum(self._rng.random(_TRIES), 0.5))
        if not good.any():
            return None
        chosen = int(np.argmax(good))
        self.take(int(x[chosen]), int(y[chosen]), radius)
        return int(x[chosen]), int(y[chosen])


@dataclass(frozen=True)
class _Scene:
    rng: Rng
    grain: Grain
    canvas: Canvas
    ground: Ground
    places: _Places

    def count(self, per_512: float) -> int:
        return int(self.rng.poisson(per_512 * (self.ground.gap.shape[0] / 512) ** 2))


def render_field(seed: int | tuple[int, ...], stain: Stain, size_px: int = 512) -> Field:
    """Draw a field of 0.25 µm/px; the same seed, stain and size give the same field.

    Parameters
    ----------
    seed
        Of ``numpy.random.default_rng``.
    stain
        Laboratory and scanner.
    size_px
        Side in pixels, at least 128.
    """
    rng = np.random.default_rng(seed)
    ground = lay_out(rng, size_px)
    scene = _Scene(rng, Grain(rng), paint(rng, ground), ground, _Places(rng, size_px))
    figures = [spot for _ in range(scene.count(MITOSES)) if (spot := _spot(scene, ground.tumour, 27))]
    ground_of_all = np.asarray(ground.tumour + ground.stroma, dtype=np.float32)
    similar = [spot for _ in range(scene.count(LOOK_ALIKES)) if (spot := _spot(scene, ground_of_all, 17))]
    _interphase(scene)
    objects = [_mitosis(scene, *spot) for spot in figures] + [_look_alike(scene, *spot) for spot in similar]
    image = exposed(scene.canvas.haematoxylin, scene.canvas.eosin, stain, rng)
    return Field(image, tuple(objects))


def _spot(scene: _Scene, ground: Plane, radius: float) -> tuple[int, int] | None:
    return scene.places.find(ground, radius, BORDER)


def _interphase(scene: _Scene) -> None:
    """Everything that is no labelled object: dark nuclei first, the others where room is left."""
    ground, rng = scene.ground, scene.rng
    nuclei: list[tuple[NucleusKind, int, int]] = []
    for _ in range(scene.count(DARK_NUCLEI)):
        if spot := scene.places.find(ground.tumour, 13):
            nuclei.append(("hyperchromatic", *spot))
    for _ in range(scene.count(LYMPHOCYTE_NESTS)):
        if centre := scene.places.find(ground.stroma, 9):
            nuclei += [("lymphocyte", *spot) for spot in _nest(scene, centre)]
    for _ in range(scene.count(420)):
        kind: NucleusKind = "vesicular" if rng.random() < 0.25 else "granular"
        if spot := scene.places.find(ground.tumour, rng.uniform(15, 19)):
            nuclei.append((kind, *spot))
    for _ in range(scene.count(60)):
        if spot := scene.places.find(ground.stroma, 14):
            nuclei.append(("spindle", *spot))
    placed = [(x, y) for kind, x, y in nuclei if kind in ("granular", "vesicular", "hyperchromatic")]
    if placed:
        divide_cells(rng, scene.canvas, ground, np.array(placed))
    for _ in range(scene.count(5)):
        if spot := scene.places.find(np.maximum(ground.stroma, ground.gap), 10):
            scene.canvas.put(red_cell(rng, 32), *spot)
    for kind, x, y in nuclei:
        angle = scene.ground.fibres + rng.normal(0, 0.3) if kind == "spindle" else rng.uniform(0, np.pi)
        scene.canvas.put(nucleus(rng, scene.grain, kind, angle), x, y)


def _nest(scene: _Scene, centre: tuple[int, int]) -> list[tuple[int, int]]:
    """Lymphocytes around a place."""
    size = scene.ground.gap.shape[0]
    nest = [centre]
    around = np.rint(scene.rng.normal(0, 28, (int(scene.rng.integers(3, 14)), 2)) + centre).astype(np.int64)
    for x, y in np.clip(around, 0, size - 1).tolist():
        if scene.ground.gap[y, x] < 0.5 and scene.places.free(x, y, 8.5):
            scene.places.take(x, y, 8.5)
            nest.append((x, y))
    return nest


def _mitosis(scene: _Scene, x: int, y: int) -> FieldObject:
    rng = scene.rng
    role: FieldRole = "atypical" if rng.random() < _ATYPICAL_SHARE else "normal"
    choices = mitoses.ATYPICAL if role == "atypical" else mitoses.NORMAL
    phase = list(choices)[int(rng.choice(len(choices), p=list(choices.values())))]
    scene.canvas.put(cleared_cell(rng, scene.grain, mitoses.SIDE, rng.uniform(19, 26)), x, y)
    patch, outline = mitoses.figure(rng, scene.grain, phase)
    scene.canvas.put(patch, x, y)
    return FieldObject(role, phase.__name__, translate(outline, x, y))


def _look_alike(scene: _Scene, x: int, y: int) -> FieldObject:
    rng, choices = scene.rng, look_alikes.LOOK_ALIKES
    kind = list(choices)[int(rng.choice(len(choices), p=list(choices.values())))]
    if kind in look_alikes.DYING:
        scene.canvas.put(dying_cell(rng, scene.grain, look_alikes.SIDE, rng.uniform(11, 17)), x, y)
    elif kind is look_alikes.granulocyte or (kind is look_alikes.smudged and rng.random() < 0.5):
        scene.canvas.put(cleared_cell(rng, scene.grain, look_alikes.SIDE, rng.uniform(12, 20)), x, y)
    patch, outline = look_alikes.look_alike(rng, scene.grain, kind)
    scene.canvas.put(patch, x, y)
    return FieldObject("non_mitosis", kind.__name__, translate(outline, x, y))
