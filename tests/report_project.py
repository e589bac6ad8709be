"""Projects with a run of which everything is known, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from dataset_project import label, square
from inference_standin import painted, painted_project, save_untrained
from shapely.geometry import box

from midog_qupath import files
from midog_qupath.detection import Detection
from midog_qupath.progress import SILENT
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.model import Project
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.results import ImageResult
from midog_qupath.project.run import new_run
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.write import write_detections
from midog_qupath.units import WORKING_MPP

#: An image whose name tries to be HTML.
HOSTILE = "b&<i>.png"
SIZE = 400


def found(x: float, y: float, certainty: float, atypical: float = 0.2) -> Detection:
    return Detection(x, y, certainty, atypical, square(x, y, 8))


def labelled_project(folder: Path) -> Project:
    """Three images: one labelled whole (4 mitoses), one without labels, one that the model has seen."""
    pictures = {name: painted(SIZE, SIZE, [(60, 60), (200, 200)]) for name in ("a.png", "b.png", "c.png")}
    labels = {
        "a.png": [
            label("Mitosis: Normal", square(60, 60), 1),
            label("Mitosis: Atypical", square(200, 200), 2),
            label("Mitosis: Normal", square(300, 60), 3),
            label("Mitosis", square(60, 300), 4),
        ],
        "c.png": [label("Mitosis", square(60, 60), 5)],
    }
    metadata = {
        "a.png": {"labelled": "whole", "domain": "north", "case": "a"},
        "c.png": {"labelled": "whole", "domain": "south", "case": "c"},
    }
    project = painted_project(folder, pictures, labels, metadata)
    model = project.ours / "models" / "20250101-000000" / "model.safetensors"
    save_untrained(model, trained_cases=("c",), domains=("south",))
    # Renamed in QuPath; not every system has such names for files.
    raw = json.loads(project.path.read_text(encoding="utf-8"))
    raw["images"][1]["imageName"] = HOSTILE
    project.path.write_text(json.dumps(raw), encoding="utf-8")
    return open_project(project.path)


#: What the run found: in a.png two hits (one called atypical though normal), a false positive, two misses.
FOUND: Mapping[str, Sequence[Detection]] = {
    "a.png": (found(60, 60, 0.9, 0.8), found(200, 200, 0.8, 0.7), found(350, 350, 0.5)),
    HOSTILE: (found(100, 100, 0.6),),
    "c.png": (found(60, 60, 0.95),),
}


def write_run(
    project: Project, detections: Mapping[str, Sequence[Detection]], model: Path, sidecar_only: bool = False
) -> str:
    """A run that found this; its id."""
    run = new_run(
        project,
        now=datetime(2025, 1, 2, tzinfo=UTC),
        model=model.relative_to(project.folder).as_posix(),
        model_sha256=files.sha256(model),
        threshold=0.3,
        atypical_threshold=0.5,
        class_map=ClassMap(),
        software={"torch": "2"},
    )
    results = [
        ImageResult(entry, detections.get(entry.name, ()), box(0, 0, entry.width, entry.height), WORKING_MPP)
        for entry in project.images
    ]
    write_detections(
        project,
        lambda: NativeStore(project),
        results,
        run,
        keep=False,
        sidecar_only=sidecar_only,
        progress=SILENT,
    )
    return run.run


def project_with_run(folder: Path) -> tuple[Project, str]:
    """The labelled project with its run."""
    project = labelled_project(folder)
    run = write_run(project, FOUND, project.ours / "models" / "20250101-000000" / "model.safetensors")
    return open_project(project.path), run


def large_project(folder: Path, count: int, images: int) -> tuple[Project, str]:
    """A project with a run of ``count`` detections on a grid, shared out over the images."""
    rng = np.random.default_rng(7)
    pictures = {f"slide-{number:02d}.png": painted(1000, 1000, [(500, 500)]) for number in range(images)}
    project = painted_project(folder, pictures)
    model = save_untrained(project.ours / "models" / "20250101-000000" / "model.safetensors")
    each = count // images
    side = int(np.ceil(np.sqrt(each)))
    step = 960 / side
    detections = {
        name: tuple(
            found(
                20 + step * (number % side),
                20 + step * (number // side),
                float(rng.uniform(0.3, 1)),
                float(rng.uniform()),
            )
            for number in range(each)
        )
        for name in pictures
    }
    return project, write_run(project, detections, model, sidecar_only=True)
