"""What pathologists drew in a project, as a table: python examples/01_read_annotations.py PROJECT"""

from __future__ import annotations

import sys

import midog_qupath


def main(path: str) -> None:
    """Print image, class and place (pixels) of every label, and how much of each image is labelled."""
    project = midog_qupath.open_project(path)
    for image in project.images:
        # The native store needs no QuPath.
        truth = midog_qupath.labels_of(project, image, store="native")
        area = truth.area(image)
        mm2 = area.area * (image.mpp / 1000) ** 2 if area is not None and image.mpp else 0.0
        print(f"# {image.name}: extent {truth.extent}, all is labelled in {mm2:.3f} mm²")
        for thing in truth.objects:
            print(f"{image.name}\t{thing.label}\t{thing.x:.1f}\t{thing.y:.1f}")


if __name__ == "__main__":
    main(sys.argv[1])
