"""Damaged data files: read as their summary says, or refused by one error that names the place.

``benchmarks/fuzz.py`` does the same with a million of them.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
from mutants import Whole, look, mutants, whole_files
from native_images import made_project

from midog_qupath.errors import MidogError
from midog_qupath.project.model import PathObject
from midog_qupath.project.qpdata.document import read_document
from midog_qupath.project.qpdata.objects import objects
from midog_qupath.project.stores.paquo import PaquoStore

SLOWEST_S = 5
FARTHEST_PX = 9e16


@pytest.fixture(scope="module")
def wholes() -> list[Whole]:
    real = Path(__file__).parents[2] / "shared" / "data"
    return whole_files(real if real.is_dir() else None)


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    return random.Random(seed)


def through(wholes: list[Whole], rng: random.Random, count: int) -> set[str]:
    ends = set()
    for whole, data in mutants(wholes, rng, count):
        started = time.process_time()
        ends.add(look(whole, data))
        assert time.process_time() - started < SLOWEST_S
    return ends


def test_a_thousand_damaged_files(wholes: list[Whole], rng: random.Random) -> None:
    assert through(wholes, rng, 1000) >= {"refused", "read"}


@pytest.mark.long
def test_ten_thousand_damaged_files(wholes: list[Whole], rng: random.Random) -> None:
    assert through(wholes, rng, 10_000) >= {"refused", "read", "refused by its summary"}


@pytest.mark.qupath
@pytest.mark.long
def test_what_still_reads_is_what_qupath_reads(
    wholes: list[Whole], rng: random.Random, tmp_path: Path
) -> None:
    """Of 1,000 damaged files that we still read: where QuPath reads one too, both read the same objects."""
    project = made_project(tmp_path)
    entry = project.images[0]
    shutil.rmtree(entry.data_dir, ignore_errors=True)
    entry.data_dir.mkdir(parents=True)
    compared = refused = 0
    different: list[str] = []
    with PaquoStore(project, timeout_s=20) as qupath:
        for whole, data in mutants(wholes, rng, 40_000):
            if compared + refused >= 1000:
                break
            if not look(whole, data).startswith("read"):
                continue
            (entry.data_dir / "data.qpdata").write_bytes(data)
            try:
                theirs = qupath.read(entry)
            except MidogError:
                refused += 1
                continue
            ours = [plain(item) for item in objects(read_document(data))]
            # QuPath gives an id to an object that has none.
            same = [replace(item, id=mine.id and item.id) for item, mine in zip(theirs, ours, strict=False)]
            if len(ours) != len(theirs) or ours != [plain(item) for item in same]:
                different.append(f"{whole.name}: {ours} and {same}")
            compared += 1
    sys.stdout.write(f"{compared} read by both, {refused} refused by QuPath\n")
    assert different == []
    assert compared > 500


def _within(value: float) -> float:
    # QuPath counts hundredths of a pixel in 64 bits; what damage put far beyond any image ends there.
    return min(max(value, -FARTHEST_PX), FARTHEST_PX)


def plain(item: PathObject) -> PathObject:
    """Without what QuPath's reading may change: the project's colours, 32 bits, a ring's beginning."""
    shape = item.roi.geometry if item.roi else None
    where = tuple(round(_within(value), 1) for value in shape.bounds) if shape is not None else None
    return replace(
        item,
        roi=None if item.roi is None else replace(item.roi, geometry=shapely.Point(where[:2])),  # type: ignore[index]
        measurements=dict.fromkeys(item.measurements, 0.0),
        path_class=item.path_class and replace(item.path_class, color=None),
        nucleus=None,
    )
