"""The ground that training stands on: pixels, pixel classes and objects of a dataset's training cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.store import Dataset
from midog_qupath.errors import DatasetError
from midog_qupath.learning.chance import Odds, Rng
from midog_qupath.learning.labels import Label, Mask, Window, area_labels, exhaustive_mask
from midog_qupath.models.student import MITOSIS


@dataclass(frozen=True)
class Spot:
    """A place to look at: position in stored pixels of an area, and what is there.

    ``window``: (y0, x0, y1, x1) that a tile may see (a mosaic's cell, else the whole area).
    ``atypical``: None where the type of a mitosis is unknown.
    """

    area: int
    y: float
    x: float
    domain: int
    window: Window
    cell: int | None = None
    is_mitosis: bool = False
    atypical: float | None = None

    @property
    def typed(self) -> bool:
        """Whether normal or atypical is known (a thing that is no mitosis has no type to be unsure of)."""
        return not self.is_mitosis or self.atypical is not None

    @property
    def kind(self) -> str:
        """``normal`` or ``atypical`` by the majority of votes, empty where it has or tells no type."""
        if not self.is_mitosis or self.atypical is None:
            return ""
        return "atypical" if self.atypical >= 0.5 else "normal"

    def target(self) -> tuple[float, float, float]:
        """Classifier target: not a mitosis, normal, atypical; both halves for an unknown type."""
        if not self.is_mitosis:
            return (1.0, 0.0, 0.0)
        share = 0.5 if self.atypical is None else self.atypical
        return (0.0, 1.0 - share, share)


@dataclass(frozen=True)
class SpotSet:
    """Spots that are drawn from at random and looked up by place."""

    spots: tuple[Spot, ...]

    def __bool__(self) -> bool:
        return bool(self.spots)

    @cached_property
    def _groups(self) -> list[list[Spot]]:
        """The spots of each domain and type of mitosis."""
        groups: dict[tuple[int, str], list[Spot]] = {}
        for spot in self.spots:
            groups.setdefault((spot.domain, spot.kind), []).append(spot)
        return [groups[key] for key in sorted(groups)]

    @cached_property
    def _balanced(self) -> Odds:
        return Odds.of(math.sqrt(len(group)) for group in self._groups)

    @cached_property
    def _by_place(self) -> dict[tuple[int, Window], list[Spot]]:
        places: dict[tuple[int, Window], list[Spot]] = {}
        for spot in self.spots:
            places.setdefault((spot.area, spot.window), []).append(spot)
        return places

    def draw(self, rng: Rng, balance: bool) -> Spot:
        """One spot; balanced, the chance of a domain's type grows with the square root of its spots.

        The root lets small domains, and atypical mitoses, count for more than their number without
        repeating them endlessly.
        """
        if not balance:
            return self.spots[int(rng.integers(len(self.spots)))]
        group = self._groups[self._balanced.draw(rng)]
        return group[int(rng.integers(len(group)))]

    def beside(self, spot: Spot) -> list[Spot]:
        """The spots that a tile around ``spot`` may see: same area, same cell of a mosaic."""
        return self._by_place.get((spot.area, spot.window), [])


@dataclass(frozen=True)
class AreaGround:
    """One block of pixels and what is known of it."""

    row: AreaRow
    image: ImageRow
    domain: int
    pixels: NDArray[np.uint8]
    exhaustive: Mask
    labels: tuple[Label, ...]

    @property
    def cells(self) -> list[Window]:
        """The cells of a mosaic that hold a training object; what else they show is not labelled."""
        if self.image.cell_px is None:
            return []
        return sorted({self.window_of(label) for label in self.labels if label.row.cell is not None})

    def knows(self, x: float, y: float) -> bool:
        """Whether every mitotic figure around this stored pixel is labelled."""
        column, row = int(x), int(y)
        inside = 0 <= column < self.row.width and 0 <= row < self.row.height
        return inside and bool(self.exhaustive[row, column])

    def window_of(self, label: Label) -> Window:
        """What a tile around a label may see: its mosaic cell, or the whole area."""
        if self.image.cell_px is None or label.row.cell is None:
            return (0, 0, self.row.height, self.row.width)
        side = round(self.image.cell_px / self.row.downsample)
        y0, x0 = int(label.y // side) * side, int(label.x // side) * side
        return (y0, x0, y0 + side, x0 + side)


@dataclass(frozen=True)
class Ground:
    """All areas of some cases, their pixel classes, and the spots that tiles are drawn from."""

    areas: tuple[AreaGround, ...]
    maps: tuple[NDArray[np.uint8], ...]
    domains: tuple[str, ...]
    mitoses: SpotSet
    hard_negatives: SpotSet

    @cached_property
    def _exhaustive_px(self) -> NDArray[np.float64]:
        return np.array([float(area.exhaustive.sum()) for area in self.areas])

    @cached_property
    def _by_size(self) -> Odds:
        return Odds.of(self._exhaustive_px.tolist())

    @property
    def has_fields(self) -> bool:
        """Whether any area is exhaustively labelled."""
        return bool(self._exhaustive_px.any())

    @cached_property
    def cases(self) -> tuple[str, ...]:
        """Cases whose objects, or whose known absence of any, are part of this ground."""
        labelled = {label.row.case for area in self.areas for label in area.labels}
        return tuple(sorted(labelled | {area.image.case for area in self.areas if area.exhaustive.any()}))

    @cached_property
    def cell_side(self) -> int | None:
        """Side of the mosaics' cells in stored pixels (the smallest where they differ); None without any."""
        sides = [a.image.cell_px / a.row.downsample for a in self.areas if a.image.cell_px is not None]
        return round(min(sides)) if sides else None

    @cached_property
    def mitoses_in_fields(self) -> SpotSet:
        """The mitoses of images that supply negatives too."""
        return self._in_fields(self.mitoses)

    @cached_property
    def hard_negatives_in_fields(self) -> SpotSet:
        """The look-alikes that were labelled where everything is."""
        return self._in_fields(self.hard_negatives)

    def _in_fields(self, spots: SpotSet) -> SpotSet:
        return SpotSet(tuple(s for s in spots.spots if self._exhaustive_px[s.area] > 0))

    @cached_property
    def mitoses_in_cells(self) -> SpotSet:
        """The mitoses of mosaics, whose surroundings show other objects."""
        return SpotSet(tuple(s for s in self.mitoses.spots if s.cell is not None))

    @cached_property
    def mitoses_elsewhere(self) -> SpotSet:
        """The mitoses of images of which nothing else is known."""
        return SpotSet(tuple(s for s in self.mitoses.spots if self._exhaustive_px[s.area] == 0))

    def spot_around(self, rng: Rng, spot: Spot) -> Spot:
        """A uniformly random place of the window (a mosaic's cell) that a spot lies in."""
        y0, x0, y1, x1 = spot.window
        return replace(spot, y=rng.uniform(y0, y1), x=rng.uniform(x0, x1))

    def random_spot(self, rng: Rng) -> Spot:
        """A uniformly random place of the exhaustively labelled ground."""
        index = self._by_size.draw(rng)
        area = self.areas[index]
        for _ in range(50):
            y, x = rng.uniform(0, area.row.height), rng.uniform(0, area.row.width)
            if area.exhaustive[int(y), int(x)]:
                break
        return Spot(index, y, x, area.domain, (0, 0, area.row.height, area.row.width))

    def window(
        self, spot: Spot, bounds: tuple[float, float, float, float]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, int]]:
        """Pixels and pixel classes inside ``bounds`` (x0, y0, x1, y1) as far as the spot's window goes.

        The third value is the origin (x, y) of both in stored pixels of the area.
        """
        top, left, bottom, right = spot.window
        x0, y0 = max(left, int(bounds[0]) - 2), max(top, int(bounds[1]) - 2)
        x1, y1 = min(right, int(bounds[2]) + 3), min(bottom, int(bounds[3]) + 3)
        pixels = np.ascontiguousarray(self.areas[spot.area].pixels[y0:y1, x0:x1])
        return pixels, np.ascontiguousarray(self.maps[spot.area][y0:y1, x0:x1]), (x0, y0)

    def beside(self, spot: Spot) -> list[Spot]:
        """The labelled objects that a tile around ``spot`` may see."""
        return self.mitoses.beside(spot) + self.hard_negatives.beside(spot)

    def with_maps(self, maps: Sequence[NDArray[np.uint8]]) -> Ground:
        """The same ground under other pixel classes."""
        return replace(self, maps=tuple(maps))


def gather(
    datasets: Sequence[Dataset],
    keep: Callable[[ObjectRow | ImageRow], bool],
    soft_labels: bool,
    domains: tuple[str, ...] | None = None,
) -> Ground:
    """Collect the areas and objects of the cases that ``keep`` accepts; pixel classes are still empty.

    An exhaustively labelled image counts when its own row is kept; a mosaic by each object's row.

    Raises
    ------
    DatasetError
        If nothing is left.
    """
    names = domains or tuple(sorted({image.domain for data in datasets for image in data.images}))
    areas = [
        area
        for data in datasets
        for row in data.areas
        if (area := _area(data, row, keep, soft_labels, names)) is not None
    ]
    if not areas:
        raise DatasetError(
            "No labelled case is left to train on.", "Label more cases, or change --split-seed."
        )
    spots = [_spot(i, area, label) for i, area in enumerate(areas) for label in area.labels]
    return Ground(
        areas=tuple(areas),
        maps=tuple(np.empty((0, 0), np.uint8) for _ in areas),
        domains=names,
        mitoses=SpotSet(tuple(s for s in spots if s.is_mitosis)),
        hard_negatives=SpotSet(tuple(s for s in spots if not s.is_mitosis)),
    )


def _area(
    data: Dataset,
    row: AreaRow,
    keep: Callable[[ObjectRow | ImageRow], bool],
    soft_labels: bool,
    domains: tuple[str, ...],
) -> AreaGround | None:
    image = data.image(row.image)
    objects = [o for o in data.objects if o.image == row.image and keep(o)]
    labels = tuple(area_labels(row, objects, soft_labels))
    exhaustive = exhaustive_mask(row, image, objects)
    if not keep(image):
        exhaustive = np.zeros_like(exhaustive)
    if not labels and not exhaustive.any():
        return None
    return AreaGround(row, image, domains.index(image.domain), data.pixels(row), exhaustive, labels)


def _spot(index: int, area: AreaGround, label: Label) -> Spot:
    return Spot(
        area=index,
        y=label.y,
        x=label.x,
        domain=area.domain,
        window=area.window_of(label),
        cell=label.row.cell,
        is_mitosis=label.pixel_class == MITOSIS,
        atypical=label.atypical,
    )
