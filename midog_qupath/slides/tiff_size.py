"""Pixel size of a TIFF, from where its makers put it."""

from __future__ import annotations

import re
from typing import Any

from midog_qupath.slides.base import PixelSize, pixel_size

#: Microns per TIFF resolution unit: inch, centimetre, millimetre, micrometre.
_UNITS = {2: 25_400.0, 3: 10_000.0, 4: 1_000.0, 5: 1.0}
_MICRONS = {
    "": 1.0, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 0.001, "mm": 1_000.0,
    "cm": 10_000.0,
}  # fmt: skip


def tiff_pixel_size(file: Any) -> PixelSize | None:
    """From OME metadata, else ImageJ's unit with the resolution tags, else the tags alone, else None.

    ``file`` is an open ``tifffile.TiffFile``.
    """
    found = ome_pixel_size(file.ome_metadata or "")
    if found is not None:
        return found
    tags = file.pages[0].tags
    unit = _UNITS.get(int(tags["ResolutionUnit"].value)) if "ResolutionUnit" in tags else None
    if file.is_imagej and unit is None:
        unit = _MICRONS.get(str((file.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ"))
    return pixel_size(_per_pixel(tags, "XResolution", unit), _per_pixel(tags, "YResolution", unit))


def ome_pixel_size(text: str) -> PixelSize | None:
    """``PhysicalSizeX`` and ``Y`` of OME-XML, in whatever unit (micrometres where none is named)."""
    return pixel_size(_physical(text, "X"), _physical(text, "Y"))


def _physical(text: str, axis: str) -> float | None:
    value = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', text)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]*)"', text)
    factor = _MICRONS.get(unit.group(1) if unit else "µm")
    return float(value.group(1)) * factor if value and factor else None


def _per_pixel(tags: Any, name: str, unit: float | None) -> float | None:
    if name not in tags or unit is None:
        return None
    numerator, denominator = tags[name].value
    return unit * denominator / numerator if numerator else None
