"""The outline of a candidate, from the mitosis probability around its peak."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Point, Polygon

from midog_qupath.units import Microns

#: Half of the side of the window in which an outline is looked for.
REACH = Microns(9.0)
#: Outlines below or above these areas are noise or several objects: a circle is drawn instead.
SMALLEST_UM2 = 8.0
LARGEST_UM2 = 250.0
#: Radius of that circle.
FALLBACK_RADIUS = Microns(3.0)
#: The window is enlarged this many times, so that outlines are smooth.
_ZOOM = 4


def outline(window: NDArray[np.float32], pixel_um: float) -> Polygon:
    """Outline at half of the peak's height, in window pixels (0, 0 = corner of the first pixel).

    Parameters
    ----------
    window
        (S, S) probability, S odd, the peak in the central pixel.
    pixel_um
        Side of a window pixel in microns.

    Returns
    -------
    A valid polygon that holds the peak or comes from its component; a circle of 3 um radius around the
    peak where the component is too small or too large to be one figure.
    """
    centre = window.shape[0] / 2
    found = _component(window, centre)
    area = found.area * pixel_um**2 if found else 0.0
    if found is None or not SMALLEST_UM2 <= area <= LARGEST_UM2:
        return Point(centre, centre).buffer(FALLBACK_RADIUS / pixel_um, quad_segs=6)
    return found


def _component(window: NDArray[np.float32], centre: float) -> Polygon | None:
    level = float(window[int(centre), int(centre)]) / 2
    fine = cv2.resize(window, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_LINEAR)
    _, labels = cv2.connectedComponents((fine >= level).astype(np.uint8), connectivity=4)
    middle = math.floor(centre * _ZOOM)
    mask = (labels == labels[middle, middle]).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    if len(largest) < 3:
        return None
    # A contour runs through the centres of the outermost fine pixels: half a fine pixel inside the edge.
    ring = (largest[:, 0, :].astype(np.float64) + 0.5) / _ZOOM
    polygon = Polygon(ring).buffer(0.5 / _ZOOM, join_style="mitre").simplify(0.5 / _ZOOM)
    return polygon if isinstance(polygon, Polygon) and polygon.is_valid and not polygon.is_empty else None
