"""Detections of a model into a project, from Python: python examples/04_annotate.py PROJECT [MODEL]"""

from __future__ import annotations

import sys

import midog_qupath


def main(path: str, model: str | None = None) -> None:
    """Search every image and write what is found; a backup is made first, people's objects stay."""
    options = midog_qupath.AnnotateOptions(threshold=None)  # the model's own threshold
    report = midog_qupath.annotate(path, options, model=model)
    for name, count in report.found.items():
        print(f"{count}\t{name}")
    for name, error in report.failed.items():
        print(f"{name}: {error}")
    print(f"Run {report.run.run}, written by {report.run.store}; GeoJSON in {report.sidecars}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
