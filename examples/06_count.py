"""The mitotic count in the hotspot of each image: python examples/06_count.py PROJECT [AREA_MM2]"""

from __future__ import annotations

import sys

import midog_qupath
from midog_qupath.counting.result import Settings


def main(path: str, area_mm2: float = 2.0) -> None:
    """Print count, place (pixels) and interval of the richest circle of this area in each image."""
    options = midog_qupath.CountOptions(settings=Settings(area_mm2=area_mm2))
    for image in midog_qupath.count(path, options, store="native").images:
        place = f"at {image.spot.x:.0f}, {image.spot.y:.0f}" if image.spot else "all of it, it is small"
        interval = image.interval
        sure = f", 95 % interval {interval.low} to {interval.high}" if interval else ""
        print(f"{image.entry.name}\t{image.total} mitoses in {image.area_mm2:.3g} mm², {place}{sure}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)
