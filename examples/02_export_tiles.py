"""Pixels around every labelled mitosis as PNG files: python examples/02_export_tiles.py PROJECT FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

import midog_qupath
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.units import WORKING_MPP

SIDE = 64  # pixels at 0.25 µm per pixel: 16 µm


def main(path: str, folder: Path) -> None:
    """Write FOLDER/<role>/<image>-<number>.png, each centred on its label, all at the same resolution."""
    project = midog_qupath.open_project(path)
    for image in project.images:
        truth = midog_qupath.labels_of(project, image, store="native")
        with open_entry(image) as slide:
            downsample = WORKING_MPP / resolve_mpp(image, slide).mpp
            half = SIDE / 2 * downsample
            for number, thing in enumerate(truth.objects):
                tile = slide.read(thing.x - half, thing.y - half, SIDE, SIDE, downsample)
                target = folder / thing.role / f"{image.stem}-{number}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(cv2.imencode(".png", tile[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
