"""How fast objects come out of a project and go into it, and how much memory that takes.

100,000 polygons are read, 100,000 detections added to an image with people's annotations: by the native store
alone, and with everything that a run does (lock, sidecar, backup, manifest, plan, write, read back). Where
QuPath is found, the same detections go in through paquo's ``load_geojson`` for comparison. Each figure is
taken in a process of its own; on a busy machine processor time says more than wall time.

    ./run bench project_store [--count 100000]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import cv2
import numpy as np
import shapely
from shapely.geometry import box

from midog_qupath.detection import Detection
from midog_qupath.progress import SILENT
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.geojson import write_features
from midog_qupath.project.model import ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.results import ImageResult
from midog_qupath.project.run import as_path_object, new_run
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import find_qupath
from midog_qupath.project.write import write_detections
from midog_qupath.units import MicronsPerPixel

SIDE, PEOPLE, CORNERS = 60_000, 200, 24


def main() -> None:
    """Figures of one task as JSON (internal), or all of them as lines."""
    if len(sys.argv) == 4 and sys.argv[1] in TASKS:
        task, folder, count = sys.argv[1:]
        sys.stdout.write(json.dumps(TASKS[task](Path(folder), int(count))) + "\n")
        return
    command()


@click.command()
@click.option("--count", default=100_000, show_default=True, help="Objects.")
def command(count: int) -> None:
    """Measure the stores."""
    click.echo(f"{count} objects of {CORNERS} corners; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for task in TASKS:
            if task == "load_geojson" and find_qupath() is None:
                click.echo("load_geojson: no QuPath found")
                continue
            arguments = [sys.executable, __file__, task, str(folder), str(count)]
            told = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout  # noqa: S603
            show(task, json.loads(told.splitlines()[-1]))


def show(task: str, found: dict[str, Any]) -> None:
    """One line of figures."""
    memory = (
        f", {found['memory'] / found['size']:.1f} x the file of {found['size'] / 1e6:.0f} MB"
        if found["size"]
        else ""
    )
    click.echo(f"{task}: {found['wall']:.2f} s ({found['cpu']:.2f} s of processor){memory}")


def prepare(folder: Path) -> None:
    """A project of one large image; no pixels of it are looked at."""
    cv2.imwrite(str(folder / "a.png"), np.full((64, 64, 3), 230, np.uint8))
    project = create_project(folder / "p", [NewImage(folder / "a.png", MicronsPerPixel(0.25))])
    people = [replace(polygon(n, ObjectKind.ANNOTATION), id=UUID(int=n + 10**9)) for n in range(PEOPLE)]
    NativeStore(project).create(project.images[0], people)


def polygon(number: int, kind: ObjectKind) -> PathObject:
    """An outline of 24 corners at a place of its own."""
    rng = np.random.default_rng(number)
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radius = rng.uniform(8, 14, CORNERS)
    ring = rng.uniform(0, SIDE, 2) + np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    shape = shapely.polygons(ring.round(2))
    return PathObject(
        UUID(int=number + 1), kind, Roi(RoiKind.POLYGON, shape), PathClass("Mitosis: Normal", -5)
    )


def detections(count: int) -> list[Detection]:
    """What a model could have found."""
    found = []
    for number in range(count):
        roi = polygon(number, ObjectKind.DETECTION).roi
        assert roi is not None
        x, y = roi.geometry.centroid.coords[0]
        found.append(Detection(x, y, 0.9, number % 10 / 10, roi.geometry))
    return found


def run_of(project: Project) -> Any:
    """A run."""
    from datetime import datetime

    return new_run(
        project, now=datetime.now(), model="stand-in", model_sha256="0" * 64, threshold=0.5,
        atypical_threshold=0.5, class_map=ClassMap(), software={},
    )  # fmt: skip


def measured(work: Callable[[], object], data: Path) -> dict[str, float]:
    """Seconds of wall and processor, and memory beside what there was before (bytes)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {**spent, "memory": memory, "size": data.stat().st_size}


def add(folder: Path, count: int) -> dict[str, float]:
    """Native: one edit, proved."""
    project = open_project(folder / "p")
    entry, store, run = project.images[0], NativeStore(project), run_of(project)
    new = tuple(as_path_object(one, run, "1", index) for index, one in enumerate(detections(count)))
    edit = Edit(frozenset(), new, store.fingerprint(entry))
    return measured(lambda: store.apply(entry, edit), entry.data_dir / "data.qpdata")


def read(folder: Path, count: int) -> dict[str, float]:
    """Native: everything that was added."""
    entry = open_project(folder / "p").images[0]
    store = NativeStore(open_project(folder / "p"))
    found: list[PathObject] = []
    figures = measured(lambda: found.extend(store.read(entry)), entry.data_dir / "data.qpdata")
    if len(found) < count:
        raise SystemExit(f"read {len(found)} of {count}")
    return figures


def run(folder: Path, count: int) -> dict[str, float]:
    """The whole protocol: another run that replaces nothing of the first (kept)."""
    other = folder / "whole"
    other.mkdir(exist_ok=True)
    prepare(other)
    project = open_project(other / "p")
    entry = project.images[0]
    result = ImageResult(entry, detections(count), box(0, 0, SIDE, SIDE), MicronsPerPixel(0.25))

    def work() -> None:
        report = write_detections(
            project, lambda: NativeStore(project), [result], run_of(project),
            keep=False, sidecar_only=False, progress=SILENT,
        )  # fmt: skip
        if report.failed:
            raise SystemExit(str(report.failed[0].error))

    return measured(work, entry.data_dir / "data.qpdata")


def load_geojson(folder: Path, count: int) -> dict[str, float]:
    """paquo's own bulk import of the same detections, without the save."""
    project = open_project(folder / "p")
    new = [as_path_object(one, run_of(project), "1", index) for index, one in enumerate(detections(count))]
    path = folder / "new.geojson"
    write_features(path, new)
    from paquo.projects import QuPathProject

    with QuPathProject(project.path, mode="a") as opened:
        hierarchy = opened.images[0].hierarchy
        content = json.loads(path.read_bytes())["features"]
        wall, cpu = time.perf_counter(), time.process_time()
        hierarchy.load_geojson(content)
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "size": 0, "memory": 0}


TASKS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "add": add,
    "read": read,
    "run": run,
    "load_geojson": load_geojson,
}

if __name__ == "__main__":
    main()
