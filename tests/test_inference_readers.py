"""Reader processes: the right pixels in the right order, whoever dies."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from slide_images import smooth, write_tiff

from midog_qupath.errors import SlideError
from midog_qupath.inference import readers as readers_module
from midog_qupath.inference.grid import grid_tiles
from midog_qupath.inference.read import read_batches
from midog_qupath.inference.readers import ReaderPool
from midog_qupath.slides.open import open_slide

TILES = grid_tiles(900, 700, 128, 32)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("s") / "a.tif", smooth(700, 900), tile=(64, 64))


@pytest.fixture(scope="module", autouse=True)
def every_slide_is_worth_it():
    patch = pytest.MonkeyPatch()
    patch.setattr(readers_module, "_WORTH_PX", 0)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def pool():
    with ReaderPool(2) as made:
        yield made


@pytest.mark.parametrize("reduce", [1, 2])
def test_processes_read_the_same_as_a_thread_in_the_same_order(path, pool, reduce):
    with open_slide(path) as slide:
        plain = list(read_batches(slide, TILES, 1.0, 80_000, reduce))
        seen = 0
        for mine, theirs in zip(pool.batches(slide, TILES, 1.0, 80_000, reduce), plain, strict=True):
            assert list(mine.tiles) == list(theirs.tiles)
            assert mine.pixels.dtype == theirs.pixels.dtype
            assert np.array_equal(mine.pixels, theirs.pixels)
            seen += len(mine.tiles)
    assert seen == len(TILES)


def test_sums_are_exact(path):
    with open_slide(path) as slide:
        (whole,) = read_batches(slide, TILES[:1], 1.0, 80_000)
        (sums,) = read_batches(slide, TILES[:1], 1.0, 80_000, 2)
    blocks = whole.pixels.reshape(1, 96, 2, 96, 2, 3).sum(axis=(2, 4))
    assert np.array_equal(sums.pixels, blocks)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_reader_that_is_killed_is_replaced(path, pool):
    with open_slide(path) as slide:
        plain = list(read_batches(slide, TILES, 1.0, 80_000))
        for index, batch in enumerate(pool.batches(slide, TILES, 1.0, 80_000)):
            assert np.array_equal(batch.pixels, plain[index].pixels)
            if index == 2:
                os.kill(pool._readers[0]._process.pid, signal.SIGKILL)
    assert index == len(plain) - 1


def test_a_slide_that_is_gone_is_an_error_and_the_next_slide_is_read(path, pool, tmp_path):
    gone = tmp_path / "gone.tif"
    gone.write_bytes(path.read_bytes())
    with open_slide(gone) as slide:
        gone.unlink()
        with pytest.raises(SlideError, match=r"gone\.tif"):
            list(pool.batches(slide, TILES, 1.0, 80_000))
    with open_slide(path) as slide:
        assert len(list(pool.batches(slide, TILES, 1.0, 80_000))) > 1


def test_what_is_not_read_to_its_end_does_not_disturb_the_next(path, pool):
    with open_slide(path) as slide:
        next(pool.batches(slide, TILES, 1.0, 80_000))
        first = next(pool.batches(slide, TILES[10:], 1.0, 1))
        assert list(first.tiles) == TILES[10:11]
        (same,) = read_batches(slide, TILES[10:11], 1.0, 1)
        assert np.array_equal(first.pixels, same.pixels)
