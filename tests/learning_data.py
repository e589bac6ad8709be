"""A tiny generated dataset: dark blobs as mitoses, pale ones as nuclei, two domains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import shapely

from midog_qupath.dataset.format import AreaRow, ImageRow, ObjectRow, Split
from midog_qupath.dataset.store import Dataset, DatasetMeta, write_dataset, write_pixels
from midog_qupath.units import WORKING_MPP

SIZE = 192


def field(seed: int, tint: int) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """An image (192, 192, 3) and its objects (x, y, role)."""
    rng = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), (225, 170 + tint, 215), dtype=np.uint8)
    objects = []
    roles = (
        "normal",
        "atypical",
        "non_mitosis",
        "nucleus",
        "nucleus",
        "nucleus",
        "nucleus",
        "nucleus",
        "nucleus",
    )
    cells = rng.permutation([(x, y) for x in (32, 96, 160) for y in (32, 96, 160)])
    for role, (x, y) in zip(roles, cells, strict=True):
        colour = {"nucleus": (110, 70, 160), "non_mitosis": (60, 30, 60)}.get(role, (40, 20, 110))
        axes = {"normal": (12, 5), "atypical": (8, 12), "non_mitosis": (6, 6)}.get(role, (11, 9))
        cv2.ellipse(image, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        if role != "nucleus":
            objects.append((float(x), float(y), role))
    noisy = cv2.GaussianBlur(image, (0, 0), 1.0) + rng.normal(0, 3, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), objects


def make_dataset(
    folder: Path,
    splits: Sequence[Split] = ("train", "train", "train", "train", "val", "val"),
    roles: Sequence[str] = ("normal", "atypical", "non_mitosis"),
    domains: int = 2,
    extent: str = "whole",
) -> Dataset:
    """Write and open a dataset of small fields, one case each."""
    images, objects, areas = [], [], []
    folder.mkdir(parents=True, exist_ok=True)
    for index, split in enumerate(splits):
        name, domain = f"field-{index}", f"domain-{index % domains}"
        pixels, drawn = field(index, 10 * (index % domains))
        area = AreaRow(name, 0.0, 0.0, 1.0, SIZE, SIZE, f"pixels/{name}.npy")
        write_pixels(folder, area, pixels)
        areas.append(area)
        images.append(
            ImageRow(name, name, domain, SIZE, SIZE, WORKING_MPP, extent, None, None, 0.002, split)  # type: ignore[arg-type]
        )
        for number, (x, y, role) in enumerate(drawn):
            if role in roles:
                box = shapely.to_wkb(shapely.box(x - 16, y - 16, x + 16, y + 16))
                objects.append(
                    ObjectRow(
                        name,
                        name,
                        domain,
                        role,
                        role,
                        x,
                        y,
                        "rectangle",
                        box,
                        None,
                        None,
                        None,
                        split,
                        str(number),  # type: ignore[arg-type]
                    )
                )
    write_dataset(folder, DatasetMeta(), images, objects, areas)
    return Dataset.open(folder)
