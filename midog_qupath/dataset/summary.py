"""What a dataset holds, in numbers: for people and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from midog_qupath.dataset.format import ImageRow
from midog_qupath.dataset.splits import tally_cases
from midog_qupath.dataset.store import Dataset


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Counts of a dataset by image, class and split.

    ``mm2`` is the exhaustively labelled area (0 for extent ``objects``); the ``split`` of a mosaic is None:
    its objects have each their own.
    """
    objects = Counter((row.image, row.label) for row in dataset.objects)
    return {
        "dataset": str(dataset.folder),
        "images": [_image(row, objects) for row in dataset.images],
        "classes": dict(sorted(Counter(row.label for row in dataset.objects).items())),
        "ignored": dataset.meta.ignored,
        "splits": _splits(dataset),
        "coarse": list(dataset.meta.coarse),
        "unlabelled": list(dataset.meta.unlabelled),
        "skipped": dataset.meta.skipped,
    }


def _image(row: ImageRow, objects: Counter[tuple[str, str]]) -> dict[str, Any]:
    return {
        "name": row.name,
        "case": row.case,
        "domain": row.domain,
        "mpp": row.mpp,
        "extent": row.extent,
        "mm2": round(row.labelled_mm2, 6),
        "split": row.split if row.cell_px is None else None,
        "objects": {label: count for (name, label), count in sorted(objects.items()) if name == row.name},
    }


def _splits(dataset: Dataset) -> dict[str, dict[str, int]]:
    split_of = {row.case: row.split for row in dataset.objects}
    split_of |= {row.case: row.split for row in dataset.images if row.cell_px is None}
    cases = tally_cases(dataset.images, dataset.objects)
    return {
        split: {
            "cases": sum(1 for tally in cases if split_of[tally.case] == split),
            "mitoses": sum(tally.mitoses for tally in cases if split_of[tally.case] == split),
            "look_alikes": sum(tally.look_alikes for tally in cases if split_of[tally.case] == split),
        }
        for split in ("train", "val", "test")
    }
