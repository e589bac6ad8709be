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
