"""How QuPath opens an image: the ``serverBuilder`` of ``project.qpproj``, as QuPath 0.6 writes it itself."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from midog_qupath.slides.base import FileFacts, FileSlide, PixelSize
from midog_qupath.slides.open import openslide_vendor
from midog_qupath.slides.openslide_reader import OpenSlideSlide
from midog_qupath.slides.pictures import SUFFIXES as PICTURES

_OPENSLIDE = "qupath.lib.images.servers.openslide.OpenslideServerBuilder"
_IMAGEJ = "qupath.imagej.images.servers.ImageJServerBuilder"
_BIOFORMATS = "qupath.lib.images.servers.bioformats.BioFormatsServerBuilder"
_FIRST = ["--series", "0"]
_RGB = (("Red", -65536), ("Green", -16711936), ("Blue", -16776961))
_SINGLE = (("Channel 1", -1),)


def server_builder(path: Path, slide: FileSlide, mpp: float | None = None) -> dict[str, Any]:
    """The ``serverBuilder`` of an image, with metadata so that QuPath opens its objects without pixels.

    Parameters
    ----------
    path
        Where the image lies.
    slide
        The same, open.
    mpp
        Microns per pixel that go before what the file says.
    """
    provider, args, facts = _as_qupath_reads(path, slide)
    size = PixelSize(mpp, mpp) if mpp is not None else slide.facts.pixel_size
    if size is not None and size.guessed:
        size = None  # QuPath would show a guess as if it had been measured
    channels = _RGB if facts.channels == len(_RGB) else _SINGLE
    power = {} if facts.magnification is None else {"magnification": facts.magnification}
    metadata = {
        "name": path.name,
        "width": slide.width,
        "height": slide.height,
        "sizeZ": 1,
        "sizeT": 1,
        "channelType": "DEFAULT",
        "isRGB": channels is _RGB,
        "pixelType": "UINT8",
        "levels": [dataclasses.asdict(level) for level in facts.levels],
        "channels": [{"name": name, "color": color} for name, color in channels],
        "pixelCalibration": _calibration(size, timed=provider == _IMAGEJ),
        **power,
        "preferredTileWidth": facts.tile_width,
        "preferredTileHeight": facts.tile_height,
    }
    return {
        "builderType": "uri",
        "providerClassName": provider,
        "uri": Path(os.path.abspath(path)).as_uri(),
        "args": args,
        "metadata": metadata,
    }


def _as_qupath_reads(path: Path, slide: FileSlide) -> tuple[str, list[str], FileFacts]:
    """Class and arguments of the reader that QuPath chooses for a file, and what that one sees of it.

    QuPath asks for the levels that stand in the project: one too many, and it cannot show the image.
    """
    if path.suffix.lower() in PICTURES:
        return _IMAGEJ, [], slide.facts
    is_ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    if is_ome:
        return _BIOFORMATS, _FIRST, slide.facts
    if openslide_vendor(path) is None:
        return _BIOFORMATS, _FIRST, dataclasses.replace(slide.facts, levels=slide.facts.levels[:1])
    with OpenSlideSlide(path) as shown:
        return _OPENSLIDE, [], shown.facts


def _calibration(size: PixelSize | None, timed: bool) -> dict[str, Any]:
    unit = "px" if size is None else "µm"
    width, height = (1.0, 1.0) if size is None else (float(size.x), float(size.y))
    return {
        "pixelWidth": {"value": width, "unit": unit},
        "pixelHeight": {"value": height, "unit": unit},
        "zSpacing": {"value": 1.0, "unit": "z-slice"},
        "timeUnit": "SECONDS",
        "timepoints": [0.0] if timed else [],
    }
