"""The field in which mitoses are counted: a circle or a 4:3 rectangle of a given area, upright."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from midog_qupath.units import MicronsPerPixel

Floats = NDArray[np.float64]
Shape = Literal["circle", "rect"]
#: Distances are compared with this much grace, in the unit of the window: a border belongs to the window.
GRACE = 1e-6
#: Corners of the polygon that stands for a circle; its area is the circle's to 2 in 10^5.
_CORNERS = 576


@dataclass(frozen=True)
class Window:
    """``half_x``, ``half_y``: half its width and height in slide pixels, of a circle both the radius."""

    shape: Shape
    half_x: float
    half_y: float

    @property
    def area(self) -> float:
        """Square slide pixels."""
        return math.pi * self.half_x**2 if self.shape == "circle" else 4 * self.half_x * self.half_y

    def beyond(self, offsets: Floats) -> Floats:
        """How far (..., 2) offsets from its centre are out of its border, less than 0 inside."""
        x, y = offsets[..., 0], offsets[..., 1]
        if self.shape == "circle":
            return np.asarray(np.sqrt(x * x + y * y) - self.half_x)
        return np.maximum(np.abs(x) - self.half_x, np.abs(y) - self.half_y)

    def covers(self, offsets: Floats) -> NDArray[np.bool_]:
        """Which of (..., 2) offsets from its centre lie in it."""
        return np.asarray(self.beyond(offsets) <= GRACE)

    def half_cell(self, side: float) -> float:
        """How far a border must move to hold the centre of a square whenever it held some of the square."""
        return side / 2 * (math.sqrt(2) if self.shape == "circle" else 1.0)

    def polygon(self, x: float, y: float) -> Polygon:
        """The window around a centre."""
        if self.shape == "rect":
            box: Polygon = shapely.box(x - self.half_x, y - self.half_y, x + self.half_x, y + self.half_y)
            return box
        angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        return Polygon(np.column_stack([x + self.half_x * np.cos(angle), y + self.half_x * np.sin(angle)]))

    def corners(self, points: Floats) -> Floats:
        """Where the borders of windows around (..., N, 2) points end upwards, or cross: (..., K, 2).

        Of all centres from which most points are seen, the uppermost and leftmost is among these, or on the
        border of where centres may lie. Not a number for two borders that do not cross.
        """
        if self.shape == "rect":
            left, top = points[..., 0] - self.half_x, points[..., 1] - self.half_y
            both = np.stack(np.broadcast_arrays(left[..., :, None], top[..., None, :]), axis=-1)
            return both.reshape(*points.shape[:-2], -1, 2)
        tops = points - [0.0, self.half_x]
        first, second = np.triu_indices(points.shape[-2], 1)
        middle = (points[..., first, :] + points[..., second, :]) / 2
        apart = points[..., second, :] - points[..., first, :]
        squared = (apart**2).sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            along = np.sqrt(self.half_x**2 / squared - 0.25)
        # Circles that touch: rounding may take their common point away.
        along = np.where(np.isnan(along) & (squared <= (2 * self.half_x + GRACE) ** 2), 0.0, along)
        across = np.stack([-apart[..., 1], apart[..., 0]], axis=-1) * along[..., None]
        return np.concatenate([tops, middle + across, middle - across], axis=-2)

    def crossings(self, points: Floats, start: Floats, end: Floats) -> Floats:
        """Where the borders of windows around (N, 2) points cross the segment from ``start`` to ``end``."""
        direction = end - start
        if self.shape == "circle":
            to = start - points
            a, b = float(direction @ direction), to @ direction
            root = b**2 - a * ((to**2).sum(axis=1) - self.half_x**2)
            with np.errstate(invalid="ignore"):
                shift = np.sqrt(np.where(root > -GRACE, np.maximum(root, 0), np.nan))
                at = np.concatenate([(-b - shift) / a, (-b + shift) / a])
        else:
            half = np.array([self.half_x, self.half_y])
            with np.errstate(invalid="ignore", divide="ignore"):
                both = [(points + sign * half - start) / direction for sign in (-1, 1)]
            at = np.concatenate(both).ravel()
        at = at[np.isfinite(at) & (at >= -GRACE) & (at <= 1 + GRACE)]
        crossed: Floats = start + at[:, None] * direction
        return crossed


def window_of(area_mm2: float, shape: Shape, mpp: MicronsPerPixel) -> Window:
    """The window of an area in square millimetres; a rectangle is 4 wide and 3 high, as a camera's field."""
    area = area_mm2 * (1000 / mpp) ** 2
    if shape == "circle":
        radius = math.sqrt(area / math.pi)
        return Window("circle", radius, radius)
    half_y = math.sqrt(area * 3 / 4) / 2
    return Window("rect", half_y * 4 / 3, half_y)
