"""What pathologists drew in a project, as a table: python examples/01_read_annotations.py PROJECT"""

from __future__ import annotations

import sys
from pathlib import Path

from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import ground_truth
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore


def main(path: Path) -> None:
    """Print image, class and place (pixels) of every label, and how much of each image is labelled."""
    project = open_project(path)
    with NativeStore(project) as store:  # no QuPath needed
        for entry in project.images:
            truth = ground_truth(entry, store.read(entry), ClassMap())
            area = truth.area(entry)
            mm2 = area.area * (entry.mpp / 1000) ** 2 if area is not None and entry.mpp else 0.0
            print(f"# {entry.name}: extent {truth.extent}, all is labelled in {mm2:.3f} mm²")
            for thing in truth.objects:
                print(f"{entry.name}\t{thing.label}\t{thing.x:.1f}\t{thing.y:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
