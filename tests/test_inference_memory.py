"""Memory does not grow with the slide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SEARCH = """
import resource, sys
import numpy as np
from inference_standin import ArraySlide, painted, standin_bundle
from midog_qupath.inference.detect import Tiling, detect

class Endless(ArraySlide):
    def __init__(self, side):
        super().__init__(painted(700, 700, [(200, 300)]))
        self.width = self.height = side
    def read(self, x, y, width, height, downsample):
        rows, columns = np.arange(int(y), int(y) + height), np.arange(int(x), int(x) + width)
        pixels = self.pixels[rows[:, None] % 700, columns % 700]
        pixels[(rows < 0) | (rows >= self.height)] = 255
        pixels[:, (columns < 0) | (columns >= self.width)] = 255
        return pixels

found = detect(Endless(int(sys.argv[1])), 0.25, standin_bundle(), tiling=Tiling(core=1024, halo=64))
print(len(found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

_FRAGMENTS = """
from pathlib import Path
from midog_qupath.inference.heap import Heap

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024

blocks = [b"x" * 100_000 for _ in range(4000)]
# Every tenth stays: what lies between them is free, but not at the end of what the C library has.
blocks = blocks[::10]
before, heap = held(), Heap()
heap.looked_at(1000)
at_once = held()
heap.looked_at(100_000_000)
print(before, at_once, held())
"""


def searched(side: int) -> tuple[int, int]:
    """Detections, and the most megabytes that a process held, by the slide's side in pixels."""
    words = [sys.executable, "-c", _SEARCH, str(side)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    found, megabytes = done.stdout.split()
    return int(found), int(megabytes)


@pytest.mark.skipif(sys.platform == "win32", reason="asks the system as only Unix answers")
def test_sixteen_times_the_pixels_take_no_more_memory() -> None:
    few, small = searched(2100)
    many, large = searched(8400)
    assert (few, many) == (9, 144)
    # The pixels that came are 200 MB more.
    assert large - small < 40, (small, large)


@pytest.mark.skipif(sys.platform != "linux", reason="only there it has to be asked for")
def test_freed_memory_goes_back_to_the_system_when_enough_was_looked_at() -> None:
    words = [sys.executable, "-c", _FRAGMENTS]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    before, soon, later = map(int, done.stdout.split())
    assert soon == before
    # 360 MB were freed.
    assert before - later > 300, (before, later)
