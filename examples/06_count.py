"""The mitotic count in the hotspot of each image: python examples/06_count.py PROJECT [AREA_MM2]"""

from __future__ import annotations

import sys
from pathlib import Path

from midog_qupath.counting.count import CountOptions, count_project
from midog_qupath.counting.result import ProjectCount, Settings
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore


def main(path: Path, area_mm2: float = 2.0) -> ProjectCount:
    """Print count, place (pixels) and interval of the richest circle of this area in each image."""
    project = open_project(path)
    with NativeStore(project) as store:
        counted = count_project(project, store, CountOptions(settings=Settings(area_mm2=area_mm2)))
    for image in counted.images:
        place = f"at {image.spot.x:.0f}, {image.spot.y:.0f}" if image.spot else "all of it, it is small"
        interval = image.interval
        sure = f", 95 % interval {interval.low} to {interval.high}" if interval else ""
        print(f"{image.entry.name}\t{image.total} mitoses in {image.area_mm2:.3g} mm², {place}{sure}")
    return counted


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)
