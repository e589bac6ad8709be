"""The same dataset for other tools: PNG tiles and one COCO file for each split.

``coco/train.json``, ``val.json``, ``test.json`` and ``coco/images/*.png``, all at the working resolution.
An object stands once, in the tile that holds its centre, its box and outline clipped to that tile. A mosaic
gives one tile for each cell with an object. An image record also says ``source`` (the image),
``x``, ``y``, ``downsample`` (slide = x, y + tile * downsample), ``case``, ``domain`` and ``extent``: with
``objects`` the rest of the tile is unknown, with ``regions`` what lies outside the regions is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow, Split
from midog_qupath.dataset.store import Dataset
from midog_qupath.files import write_json
from midog_qupath.progress import Progress
from midog_qupath.units import WORKING_MPP

TILE = 512
#: Side of the box around a point in microns: 50 pixels at 0.25 um/px, as in MIDOG's own labels.
POINT_BOX = 12.5


@dataclass(frozen=True)
class Tile:
    """A rectangle of stored pixels of one area and the objects whose centres it holds."""

    area: AreaRow
    left: int
    top: int
    width: int
    height: int
    objects: tuple[ObjectRow, ...]
    split: Split

    @property
    def file(self) -> str:
        """Name of the PNG, unique in the dataset."""
        return f"{Path(self.area.file).stem}_x{self.left}_y{self.top}.png"

    @property
    def box(self) -> Polygon:
        """The tile in slide pixels."""
        scale = self.area.downsample
        x0, y0 = self.area.x0 + self.left * scale, self.area.y0 + self.top * scale
        return shapely.box(x0, y0, x0 + self.width * scale, y0 + self.height * scale)


def write_coco(dataset: Dataset, folder: Path, progress: Progress) -> None:
    """Write tiles and COCO files of a dataset into ``folder``."""
    labels = sorted({row.label: row.role for row in dataset.objects}.items())
    categories = {label: index for index, (label, _) in enumerate(labels, start=1)}
    listed = [
        {"id": categories[label], "name": label, "supercategory": _group(role)} for label, role in labels
    ]
    tiles = list(all_tiles(dataset))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with progress.task("COCO tiles", len(tiles), "tiles") as advance:
        for tile in tiles:
            _write_png(folder / "images" / tile.file, dataset.pixels(tile.area), tile)
            advance(1)
    for split in ("train", "val", "test"):
        own = [tile for tile in tiles if tile.split == split]
        records = [_image(index, tile, dataset.image(tile.area.image)) for index, tile in enumerate(own, 1)]
        write_json(
            folder / f"{split}.json",
            {"images": records, "categories": listed, "annotations": _annotations(own, categories)},
        )


def _group(role: str) -> str:
    return "non_mitosis" if role == "non_mitosis" else "mitosis"


def all_tiles(dataset: Dataset) -> Iterator[Tile]:
    """Every tile of labelled extent, area by area, row by row."""
    objects: dict[str, list[ObjectRow]] = defaultdict(list)
    for row in dataset.objects:
        objects[row.image].append(row)
    for area in dataset.areas:
        yield from _tiles(area, dataset.image(area.image), objects[area.image])


def _tiles(area: AreaRow, image: ImageRow, objects: Sequence[ObjectRow]) -> Iterator[Tile]:
    side = TILE if image.cell_px is None else round(image.cell_px / area.downsample)
    places: dict[tuple[int, int], list[ObjectRow]] = {}
    for row in objects:
        x, y = (row.x - area.x0) / area.downsample, (row.y - area.y0) / area.downsample
        if 0 <= x < area.width and 0 <= y < area.height:
            places.setdefault((int(x) // side * side, int(y) // side * side), []).append(row)
    regions = shapely.from_wkb(image.region_polygons) if image.region_polygons else None
    for top in range(0, area.height, side):
        for left in range(0, area.width, side):
            held = tuple(places.get((left, top), ()))
            size = min(side, area.width - left), min(side, area.height - top)
            tile = Tile(area, left, top, *size, held, held[0].split if held else image.split)
            if held or _labelled(tile, image, regions):
                yield tile


def _labelled(tile: Tile, image: ImageRow, regions: BaseGeometry | None) -> bool:
    """Whether a tile without objects says something: that there are none."""
    if image.extent == "regions":
        return regions is not None and bool(regions.intersects(tile.box))
    return image.extent == "whole"


def _image(index: int, tile: Tile, image: ImageRow) -> dict[str, Any]:
    x, y = tile.box.bounds[:2]
    return {
        "id": index,
        "file_name": f"images/{tile.file}",
        "width": tile.width,
        "height": tile.height,
        "source": image.name,
        "x": x,
        "y": y,
        "downsample": tile.area.downsample,
        "case": tile.objects[0].case if image.cell_px and tile.objects else image.case,
        "domain": image.domain,
        "extent": image.extent,
    }


def _annotations(tiles: Sequence[Tile], categories: dict[str, int]) -> list[dict[str, Any]]:
    placed = [(index, tile, row) for index, tile in enumerate(tiles, 1) for row in tile.objects]
    return [
        {
            "id": number,
            "image_id": index,
            "category_id": categories[row.label],
            "iscrowd": 0,
            "source_id": row.source_id,
            **_outline(tile, row),
        }
        for number, (index, tile, row) in enumerate(placed, start=1)
    ]


def _outline(tile: Tile, row: ObjectRow) -> dict[str, Any]:
    """``bbox`` [x, y, width, height], ``segmentation`` and ``area`` in tile pixels, inside the tile."""
    shape = shapely.from_wkb(row.polygon) if row.polygon else _point_box(tile.area, row)
    box = shapely.envelope(shape).intersection(tile.box)
    parts = [part for part in shapely.get_parts(shape.intersection(tile.box)) if isinstance(part, Polygon)]
    origin = np.array(tile.box.bounds[:2])

    def to_tile(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = np.round((xy - origin) / tile.area.downsample, 3)
        return moved

    inside = [shapely.transform(part, to_tile) for part in parts or [box]]
    x0, y0, x1, y1 = shapely.transform(box, to_tile).bounds
    return {
        "bbox": [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)],
        "segmentation": [np.ravel(part.exterior.coords).tolist() for part in inside],
        "area": round(sum(part.area for part in inside), 3),
    }


def _point_box(area: AreaRow, row: ObjectRow) -> Polygon:
    half = POINT_BOX / 2 / WORKING_MPP * area.downsample
    return shapely.box(row.x - half, row.y - half, row.x + half, row.y + half)


def _write_png(path: Path, pixels: NDArray[np.uint8], tile: Tile) -> None:
    block = pixels[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    # OpenCV's own file writing cannot open paths with other than ASCII letters on Windows.
    _, encoded = cv2.imencode(".png", cv2.cvtColor(np.asarray(block), cv2.COLOR_RGB2BGR))
    path.write_bytes(encoded.tobytes())
