"""Damaged slides: thousands cut short or with bits turned must be read or refused, never crash or hang.

Each is read in a process of its own kind, so that a crash of a decoder is noticed and counted.

    ./run bench damage [--count 1000] [--seed 0]
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import click
import cv2
import numpy as np
import tifffile

from midog_qupath.errors import SlideError
from midog_qupath.slides.open import open_slide

DATA = Path(__file__).parents[2] / "shared" / "data" / "slides" / "cmu-1-small-region.svs"
_SIDE = 600
#: Seconds in which a slide of this size must be read or refused.
_LIMIT = 60


def damaged(raw: bytes, seed: int) -> bytes:
    """Cut short, or with some bits turned; every third time in the first kilobyte, where the structure is."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return raw[: int(rng.integers(1, len(raw)))]
    data = bytearray(raw)
    reach = 1024 if seed % 3 == 1 else len(raw)
    for place in rng.integers(0, min(reach, len(raw)), int(rng.integers(1, 20))):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def read_all(path: Path) -> str:
    """What became of reading every pixel at two resolutions: ``read`` or ``refused``."""
    try:
        with open_slide(path) as slide:
            for downsample in (1.0, 4.0):
                # As much as a small slide has, whatever the file now says.
                side = min(max(slide.width, slide.height), 4096)
                slide.read(0, 0, int(side / downsample) + 1, int(side / downsample) + 1, downsample)
    except SlideError:
        return "refused"
    return "read"


def whole_slides(folder: Path) -> dict[str, bytes]:
    """A small slide of each kind, by its file name ending and what is in it."""
    noise = np.random.default_rng(0).normal(0, 1, (_SIDE, _SIDE, 3))
    blurred = cv2.GaussianBlur(noise, (0, 0), 9)
    rgb = np.clip(150 + blurred / blurred.std() * 30, 0, 255).astype(np.uint8)
    kinds = {
        "jpeg.tif": {"tile": (128, 128), "compression": "jpeg"},
        "zlib.tif": {"tile": (128, 128), "compression": "zlib"},
        "strips.tif": {"rowsperstrip": 32},
    }
    found = {}
    for name, options in kinds.items():
        tifffile.imwrite(folder / name, rgb, photometric="rgb", **options)
        found[name] = (folder / name).read_bytes()
    for suffix in (".png", ".jpg"):
        found[f"picture{suffix}"] = cv2.imencode(suffix, rgb)[1].tobytes()
    if DATA.is_file():
        found["aperio.svs"] = DATA.read_bytes()
    return found


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


@click.command()
@click.option("--count", default=1000, show_default=True, help="Damaged files.")
@click.option("--seed", default=0, show_default=True)
def main(count: int, seed: int) -> None:
    """Damage, read, count; exit code 1 if anything but reading or refusing happened."""
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        wholes = list(whole_slides(folder).items())
        pool = _pool()
        for number in range(seed, seed + count):
            name, raw = wholes[number % len(wholes)]
            path = folder / f"damaged-{name}"
            path.write_bytes(damaged(raw, number // len(wholes)))
            began = time.perf_counter()
            try:
                outcome = pool.submit(read_all, path).result(timeout=_LIMIT)
            except (BrokenProcessPool, TimeoutError) as error:
                outcome = f"{type(error).__name__} at seed {number}"
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _pool()
            except Exception as error:  # noqa: BLE001 - every other error is what is looked for
                outcome = f"{type(error).__name__} at seed {number}"
            slowest = max(slowest, time.perf_counter() - began)
            outcomes[name, outcome] += 1
        pool.shutdown()
    for (name, outcome), times in sorted(outcomes.items()):
        click.echo(f"{name}: {outcome} {times}")
    wrong = sum(times for (_, outcome), times in outcomes.items() if outcome not in ("read", "refused"))
    click.echo(f"{count} damaged files, {wrong} neither read nor refused, slowest {slowest:.1f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
