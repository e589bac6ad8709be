"""The training dataset: one folder, documented, written by export and read by training.

``dataset.json``   schema version, working resolution, class map, sources, software versions
``objects.parquet``  one row an object (each point of a multi-point a row)
``images.parquet``   one row an image
``areas.parquet``    one row a block of pixels
``pixels/*.npy``     the blocks, (height, width, 3) uint8 RGB at the working resolution
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from midog_qupath.units import MicronsPerPixel

SCHEMA_VERSION = 1

Extent = Literal["regions", "whole", "objects"]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ObjectRow:
    """One labelled object. ``x``, ``y`` = centre of its bounding box, slide pixels.

    ``label`` is the class as in QuPath, ``role`` what the class map makes of it: ``mitosis`` (normal or
    atypical unknown), ``normal``, ``atypical`` or ``non_mitosis``. ``polygon`` is the outline as drawn
    (WKB in the file), ``shape`` the RoiKind it was drawn as (points have no outline). ``cell`` is the
    index ``row * columns + column`` in a mosaic. Votes are None where unknown.
    """

    image: str
    case: str
    domain: str
    label: str
    role: Literal["mitosis", "normal", "atypical", "non_mitosis"]
    x: float
    y: float
    shape: str
    polygon: bytes | None
    votes_atypical: int | None
    votes_total: int | None
    cell: int | None
    split: Split
    source_id: str


@dataclass(frozen=True)
class ImageRow:
    """One image. ``region_polygons`` = WKB of the union of its ``Region*`` areas (None unless ``regions``).

    ``name`` is unique in the dataset. ``cell_px`` (slide pixels) marks a mosaic whose cells do not
    continue into one another. ``split`` is that of its case (in a mosaic each object has its own).
    """

    name: str
    case: str
    domain: str
    width: int
    height: int
    mpp: MicronsPerPixel
    extent: Extent
    cell_px: int | None
    region_polygons: bytes | None
    labelled_mm2: float
    split: Split


@dataclass(frozen=True)
class AreaRow:
    """One block of pixels. ``x0``, ``y0`` (slide pixels) is its upper left corner.

    ``downsample`` = slide pixels per stored pixel; slide = origin + stored * downsample.
    ``width``, ``height`` in stored pixels; ``file`` relative to the dataset folder.
    """

    image: str
    x0: float
    y0: float
    downsample: float
    width: int
    height: int
    file: str
