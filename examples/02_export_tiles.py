"""Pixels around every labelled mitosis as PNG files: python examples/02_export_tiles.py PROJECT FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import ground_truth
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.slides.check import open_entry
from midog_qupath.slides.mpp import resolve_mpp
from midog_qupath.units import WORKING_MPP

SIDE = 64  # pixels at 0.25 µm per pixel: 16 µm


def main(path: Path, folder: Path) -> None:
    """Write FOLDER/<role>/<image>-<number>.png, each centred on its label, all at the same resolution."""
    project = open_project(path)
    with NativeStore(project) as store:
        for entry in project.images:
            truth = ground_truth(entry, store.read(entry), ClassMap())
            with open_entry(entry) as slide:
                downsample = WORKING_MPP / resolve_mpp(entry, slide).mpp
                half = SIDE / 2 * downsample
                for number, thing in enumerate(truth.objects):
                    tile = slide.read(thing.x - half, thing.y - half, SIDE, SIDE, downsample)
                    target = folder / thing.role / f"{entry.stem}-{number}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(cv2.imencode(".png", tile[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
