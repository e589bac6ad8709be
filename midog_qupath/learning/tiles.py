"""Training tiles: which place to look at, and what is known there.

A batch is a pure function of (seed, step): an interrupted training continues with the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.augment import Placement, place, recolour, warp, warp_labels
from midog_qupath.learning.chance import Odds, Rng
from midog_qupath.learning.ground import Ground, Spot, SpotSet
from midog_qupath.learning.labels import Window
from midog_qupath.learning.paste import PATCH_PX, Scene, find_place, set_in
from midog_qupath.learning.recipe import AugmentationRecipe, SamplingRecipe
from midog_qupath.learning.seeds import IGNORE
from midog_qupath.models.student import HARD_NEGATIVE, MITOSIS, NUCLEUS

#: Objects of one (small) tile that the contrastive and adversarial parts look at.
_OBJECTS_A_TILE = 5
#: Normal nuclei of one (small) tile that the classifier looks at, on average: the easy part of its task, and
#: each candidate costs a training step a millisecond.
_NUCLEI_A_TILE = 0.25
#: Components smaller than this (output pixels) carry no usable embedding.
_MIN_COMPONENT = 6
#: A candidate nearer to the tile's border than this (working pixels) is not shown to the classifier.
_MARGIN_PX = 12.0


@dataclass(frozen=True)
class Batch:
    """What one training step sees. h = tile / stride.

    ``images`` (B, tile, tile, 3) uint8; ``targets`` (B, h, h) uint8 pixel classes, 255 ignored;
    ``components`` (B, h, h) int64 numbers of objects counted from 1 through the batch, 0 elsewhere;
    ``component_class``, ``component_domain`` (K,) int64;
    ``positions`` (N, 3) float32 batch index, y, x of candidates in tile pixels;
    ``candidate_target`` (N, 3) float32 not a mitosis, normal, atypical; ``candidate_typed`` (N,) bool:
    False where a mitotic figure may be of either type.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    components: NDArray[np.int64]
    component_class: NDArray[np.int64]
    component_domain: NDArray[np.int64]
    positions: NDArray[np.float32]
    candidate_target: NDArray[np.float32]
    candidate_typed: NDArray[np.bool_]


@dataclass(frozen=True)
class TileSource:
    """Draws tiles from labelled ground. ``stride``: tile pixels per output pixel."""

    ground: Ground
    sampling: SamplingRecipe
    augmentation: AugmentationRecipe
    stride: int
    seed: int
    #: Look-alikes that mining found, beside those a person labelled.
    mined: SpotSet
    #: This process and how many share a batch.
    rank: int = 0
    processes: int = 1

    def batch(self, step: int) -> Batch:
        """The batch of a step, or this process's share of it; all shares in order are the batch of one.

        Wide tiles are few: where there are more processes, each has one.
        """
        wide = self._is_wide(step)
        whole = max(self.sampling.wide_batch, self.processes) if wide else self.sampling.batch
        first, end = (whole * rank // self.processes for rank in (self.rank, self.rank + 1))
        make = self._wide_tile if wide else self._tile_of_one
        # No tile depends on another: that makes a share of a batch the same wherever it is made.
        return _collate(
            [make(np.random.default_rng((self.seed, step, index))) for index in range(first, end)]
        )

    def _is_wide(self, step: int) -> bool:
        """Whether a step looks at wide tiles: so often as their share says, evenly."""
        share = self.sampling.share_wide if self.ground.has_fields else 0.0
        return math.floor((step + 1) * share) > math.floor(step * share)

    def _tile_of_one(self, rng: Rng) -> _Tile:
        """A tile around one place; where a mosaic trains along, most are seen as in a mosaic."""
        spot = self._draw(rng)
        window = self._as_in_a_cell(rng, spot)
        placement = place(rng, (spot.x, spot.y), self.sampling.tile_px, self.augmentation)
        return self._finish(rng, *self._scene(spot, window, placement))

    def _wide_tile(self, rng: Rng) -> _Tile:
        """A tile of exhaustively labelled ground as an image shows it: what is drawn lies anywhere in it.

        Objects from elsewhere are set into it, as many as small tiles of its size together would show.
        """
        side = self.sampling.wide_px
        anywhere = self.augmentation.model_copy(update={"shift_px": side / 2 - _MARGIN_PX})
        spot = self._draw(rng, in_fields=True)
        placement = place(rng, (spot.x, spot.y), side, anywhere)
        scene, candidates = self._scene(spot, spot.window, placement)
        taken = [(c.y, c.x) for c in candidates]
        for _ in range(self._times(side)):
            candidates.extend(self._paste(rng, scene, taken, placement.scale))
        return self._finish(rng, scene, candidates)

    def _paste(
        self, rng: Rng, scene: Scene, taken: list[tuple[float, float]], scale: float
    ) -> list[_Candidate]:
        """Set what a small tile would show in its middle into a scene; the candidate that this adds."""
        spot = self._draw(rng)
        alike = self.augmentation.model_copy(update={"shift_px": 0.0, "scale": (scale, scale)})
        placement = place(rng, (spot.x, spot.y), PATCH_PX, alike)
        patch, candidates = self._scene(spot, spot.window, placement)
        at = find_place(rng, scene, patch, taken)
        if at is None:
            return []
        taken.append(at)
        set_in(rng, scene, patch, at)
        half = PATCH_PX / 2
        return [
            replace(c, y=c.y - half + at[0], x=c.x - half + at[1])
            for c in candidates
            if np.hypot(c.y - half, c.x - half) < _MARGIN_PX
        ]

    def _draw(self, rng: Rng, in_fields: bool = False) -> Spot:
        """A place to look at; ``in_fields``: only where everything is labelled."""
        ground, balance = self.ground, self.sampling.balance_domains
        fields, elsewhere = ground.mitoses_in_fields, ground.mitoses_elsewhere
        drawn = ground.hard_negatives_in_fields if in_fields else ground.hard_negatives
        around = bool(ground.mitoses_in_cells) and not in_fields
        shares = {
            "mitosis": self.sampling.share_mitosis if fields or (elsewhere and not in_fields) else 0.0,
            "negative": self.sampling.share_hard_negative if drawn or self.mined else 0.0,
            "field": self.sampling.share_field if ground.has_fields else 0.0,
            "surroundings": self.sampling.share_surroundings if around else 0.0,
        }
        # Wide tiles of a recipe that draws nothing there still show the ground itself.
        kind = _choose(rng, shares) if any(shares.values()) or not in_fields else "field"
        if kind == "surroundings":
            return ground.spot_around(rng, ground.mitoses_in_cells.draw(rng, balance))
        if kind == "field":
            return ground.random_spot(rng)
        if kind == "mitosis":
            from_fields = in_fields or (
                bool(fields) and (not elsewhere or rng.random() < self.sampling.mitoses_from_fields)
            )
            return (fields if from_fields else elsewhere).draw(rng, balance)
        from_mined = bool(self.mined) and (not drawn or rng.random() < self.sampling.share_mined)
        return (self.mined if from_mined else drawn).draw(rng, balance)

    def _scene(self, spot: Spot, window: Window, placement: Placement) -> tuple[Scene, list[_Candidate]]:
        """What a placement shows of a spot's area, as far as the window goes, and the candidates there."""
        pixels, labels, origin = self.ground.window(replace(spot, window=window), placement.bounds())
        local = placement.seen_from(origin)
        domains = np.full((placement.size, placement.size), spot.domain, dtype=np.int32)
        scene = Scene(warp(pixels, local), warp_labels(labels, local, IGNORE), domains)
        return scene, self._candidates(spot, window, placement)

    def _finish(self, rng: Rng, scene: Scene, candidates: list[_Candidate]) -> _Tile:
        """The tile of a scene: recoloured, its objects numbered."""
        image = recolour(rng, scene.image, self.augmentation)
        middle = slice(self.stride // 2, None, self.stride)
        target = scene.labels[middle, middle]
        times = self._times(len(image))
        components, classes = _components(rng, target, _OBJECTS_A_TILE * times)
        nuclei = self._nuclei(components, classes, int(_NUCLEI_A_TILE * times + rng.random()), len(image))
        domains = _domains(scene.domains[middle, middle], components, len(classes))
        return _Tile(image, target, components, classes, domains, candidates + nuclei)

    def _times(self, side: int) -> int:
        """How many small tiles have the area of a tile of this side."""
        return max(1, side**2 // self.sampling.tile_px**2)

    def _as_in_a_cell(self, rng: Rng, spot: Spot) -> Window:
        """Where a mosaic trains along, a place of another image is mostly seen as in the middle of a cell.

        The mirrored border of a cell would else tell that there is a mitotic figure in its middle.
        """
        side = self.ground.cell_side
        in_cell = self.ground.areas[spot.area].image.cell_px is not None
        if side is None or in_cell or rng.random() >= self.sampling.seen_as_cells:
            return spot.window
        top, left, bottom, right = spot.window
        y, x = int(spot.y) - side // 2, int(spot.x) - side // 2
        return (max(y, top), max(x, left), min(y + side, bottom), min(x + side, right))

    def _candidates(self, spot: Spot, window: Window, placement: Placement) -> list[_Candidate]:
        """The labelled and mined objects of what is seen that lie well inside the tile."""
        top, left, bottom, right = window
        others = [
            other
            for other in self.ground.beside(spot) + self.mined.beside(spot)
            if top <= other.y < bottom and left <= other.x < right
        ]
        if not others:
            return []
        inside = placement.apply(np.array([(other.x, other.y) for other in others]))
        return [
            _Candidate(float(y), float(x), other.target(), other.typed)
            for other, (x, y) in zip(others, inside, strict=True)
            if _well_inside(y, x, placement.size)
        ]

    def _nuclei(
        self, components: NDArray[np.int64], classes: list[int], most: int, side: int
    ) -> list[_Candidate]:
        """Some normal nuclei of the tile, for the classifier to know what is no mitosis."""
        numbers = [i for i, c in enumerate(classes, start=1) if c == NUCLEUS]
        centres = (np.argwhere(components == n).mean(axis=0) * self.stride + self.stride / 2 for n in numbers)
        inside = (
            _Candidate(float(y), float(x), (1.0, 0.0, 0.0), True)
            for y, x in centres
            if _well_inside(y, x, side)
        )
        return list(islice(inside, most))


@dataclass(frozen=True)
class _Candidate:
    y: float
    x: float
    target: tuple[float, float, float]
    typed: bool


@dataclass(frozen=True)
class _Tile:
    image: NDArray[np.uint8]
    target: NDArray[np.uint8]
    components: NDArray[np.int64]
    classes: list[int]
    domains: list[int]
    candidates: list[_Candidate]


def _well_inside(y: float, x: float, side: int) -> bool:
    return min(y, x) >= _MARGIN_PX and max(y, x) <= side - _MARGIN_PX


def _choose(rng: Rng, shares: Mapping[str, float]) -> str:
    return list(shares)[Odds.of(shares.values()).draw(rng)]


def _components(rng: Rng, target: NDArray[np.uint8], most: int) -> tuple[NDArray[np.int64], list[int]]:
    """Number up to ``most`` objects of a tile from 1 (mitoses and look-alikes first), and their classes."""
    numbered = np.zeros(target.shape, dtype=np.int64)
    classes: list[int] = []
    for pixel_class in (MITOSIS, HARD_NEGATIVE, NUCLEUS):
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            (target == pixel_class).astype(np.uint8), connectivity=4
        )
        large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= _MIN_COMPONENT]
        number_of = np.zeros(count, dtype=np.int64)
        for part in rng.permutation(large)[: most - len(classes)]:
            classes.append(pixel_class)
            number_of[part] = len(classes)
        numbered += number_of[parts]
    return numbered, classes


def _domains(domains: NDArray[np.int32], components: NDArray[np.int64], count: int) -> list[int]:
    """The domain of each component, at its first pixel."""
    flat = components.ravel()
    numbers, first = np.unique(flat, return_index=True)
    at = dict(zip(numbers.tolist(), domains.ravel()[first].tolist(), strict=True))
    return [int(at[number]) for number in range(1, count + 1)]


def _collate(tiles: list[_Tile]) -> Batch:
    components: list[NDArray[np.int64]] = []
    classes: list[int] = []
    domains: list[int] = []
    for tile in tiles:
        components.append(np.where(tile.components > 0, tile.components + len(classes), 0))
        classes.extend(tile.classes)
        domains.extend(tile.domains)
    candidates = [(i, c) for i, tile in enumerate(tiles) for c in tile.candidates]
    return Batch(
        images=np.stack([tile.image for tile in tiles]),
        targets=np.stack([tile.target for tile in tiles]),
        components=np.stack(components),
        component_class=np.array(classes, dtype=np.int64),
        component_domain=np.array(domains, dtype=np.int64),
        positions=np.array([(i, c.y, c.x) for i, c in candidates], dtype=np.float32).reshape(-1, 3),
        candidate_target=np.array([c.target for _, c in candidates], dtype=np.float32).reshape(-1, 3),
        candidate_typed=np.array([c.typed for _, c in candidates], dtype=bool),
    )
