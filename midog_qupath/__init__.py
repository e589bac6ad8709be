"""Mitosis detection and atypical classification for QuPath projects.

What the commands do, as functions::

    import midog_qupath

    project = midog_qupath.open_project("project.qpproj")
    report = midog_qupath.annotate(project)

Names are imported when they are first used: ``import midog_qupath`` itself loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midog_qupath.api import (
        annotate,
        classify,
        count,
        evaluate,
        export,
        import_labels,
        info,
        labels_of,
        load,
        new_project,
        pseudo_masks,
        read_objects,
        train,
        undo,
        write_report,
    )
    from midog_qupath.counting.count import CountOptions
    from midog_qupath.dataset.read_image import ExportOptions
    from midog_qupath.dataset.store import Dataset
    from midog_qupath.errors import MidogError
    from midog_qupath.evaluation.project import EvaluateOptions
    from midog_qupath.inference.jobs import AnnotateOptions
    from midog_qupath.models.bundle import Bundle
    from midog_qupath.progress import Progress
    from midog_qupath.project.classes import ClassMap
    from midog_qupath.project.create import NewImage
    from midog_qupath.project.model import ImageEntry, PathObject, Project
    from midog_qupath.project.qpproj import open_project
    from midog_qupath.report.gather import ReportOptions
    from midog_qupath.slides.open import open_slide

__version__ = "0.1.0"

__all__ = [
    "AnnotateOptions",
    "Bundle",
    "ClassMap",
    "CountOptions",
    "Dataset",
    "EvaluateOptions",
    "ExportOptions",
    "ImageEntry",
    "MidogError",
    "NewImage",
    "PathObject",
    "Progress",
    "Project",
    "ReportOptions",
    "__version__",
    "annotate",
    "classify",
    "count",
    "evaluate",
    "export",
    "import_labels",
    "info",
    "labels_of",
    "load",
    "new_project",
    "open_project",
    "open_slide",
    "pseudo_masks",
    "read_objects",
    "train",
    "undo",
    "write_report",
]

#: Public names that do not come from :mod:`midog_qupath.api`, and where they do.
_ELSEWHERE = {
    "AnnotateOptions": "inference.jobs",
    "Bundle": "models.bundle",
    "ClassMap": "project.classes",
    "CountOptions": "counting.count",
    "Dataset": "dataset.store",
    "EvaluateOptions": "evaluation.project",
    "ExportOptions": "dataset.read_image",
    "ImageEntry": "project.model",
    "MidogError": "errors",
    "NewImage": "project.create",
    "PathObject": "project.model",
    "Progress": "progress",
    "Project": "project.model",
    "ReportOptions": "report.gather",
    "open_project": "project.qpproj",
    "open_slide": "slides.open",
}


def __getattr__(name: str) -> object:
    """A public name, imported now."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
