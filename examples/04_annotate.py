"""Detections of a model into a project, from Python: python examples/04_annotate.py PROJECT [MODEL]"""

from __future__ import annotations

import sys
from pathlib import Path

from midog_qupath.inference.annotate import AnnotateReport, annotate_project
from midog_qupath.inference.device import choose_device
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.models.bundle import load_bundle
from midog_qupath.models.find import find_model
from midog_qupath.progress import SILENT
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.choose import choose_store


def main(path: Path, chosen: Path | None = None) -> AnnotateReport:
    """Search every image and write what is found; a backup is made first, people's objects stay."""
    project = open_project(path)
    model, why = find_model(project, chosen)
    store, reason = choose_store(project, None)
    bundle = load_bundle(model, choose_device("auto"))
    report = annotate_project(project, store, bundle, model, AnnotateOptions(), SILENT)
    print(f"{why}; {reason}")
    for name, count in report.found.items():
        print(f"{count}\t{name}")
    for name, error in report.failed.items():
        print(f"{name}: {error}")
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
