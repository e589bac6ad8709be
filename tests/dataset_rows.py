"""Small datasets written by hand, for tests that need one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow
from midog_qupath.dataset.store import Dataset, DatasetMeta, write_dataset, write_pixels
from midog_qupath.units import WORKING_MPP

IMAGE = ImageRow("a.png", "case a", "lab", 8, 6, WORKING_MPP, "whole", None, None, 3e-6, "train")
OBJECT = ObjectRow(
    "a.png",
    "case a",
    "lab",
    "Mitosis",
    "mitosis",
    3.5,
    2.0,
    "points",
    None,
    None,
    None,
    None,
    "train",
    "1",
)
AREA = AreaRow("a.png", 0.0, 0.0, 1.0, 8, 6, "pixels/0000.npy")


def a_case(case: str, domain: str, mitoses: int, look_alikes: int = 0) -> tuple[ImageRow, list[ObjectRow]]:
    """An image of this case with so many objects."""
    image = replace(IMAGE, name=f"{case}.png", case=case, domain=domain)
    mitosis = replace(OBJECT, image=image.name, case=case, domain=domain)
    look_alike = replace(mitosis, label="Non-mitosis", role="non_mitosis")
    return image, [mitosis] * mitoses + [look_alike] * look_alikes


def write_small(folder: Path) -> Dataset:
    """One image, one object, one block of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    write_pixels(folder, AREA, pixels)
    write_dataset(folder, DatasetMeta(), [IMAGE], [OBJECT], [AREA])
    return Dataset.open(folder)
