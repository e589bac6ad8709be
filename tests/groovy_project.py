"""A project of two images for the scripts that run inside QuPath, and what runs them there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import pytest
from shapely.geometry import Point, box
from write_objects import next_run

from midog_qupath.detection import Detection
from midog_qupath.progress import SILENT
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.results import ImageResult
from midog_qupath.project.shapes import centre, centres
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import find_qupath
from midog_qupath.project.write import write_detections
from midog_qupath.resources import shipped
from midog_qupath.units import MicronsPerPixel


def two_images(folder: Path) -> Project:
    """Two grey images of 400 x 400 px, 0.25 um/px, with a mitosis drawn at 310, 310 in each."""
    images = []
    for number in range(2):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((400, 400, 3), 200, np.uint8))
        images.append(NewImage(path, mpp=0.25))
    project = create_project(folder / "p", images)
    for entry in project.images:
        NativeStore(project).create(entry, [drawn(300, 300)])
    return project


def require_groovy() -> None:
    """Skip where QuPath comes without Groovy (its bare classes)."""
    qupath = find_qupath()
    if qupath is None or not list(qupath.rglob("groovy*.jar")):
        pytest.skip("no QuPath with Groovy found")


def run_script(
    project: Project,
    script: str,
    *entries: ImageEntry,
    words: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """Run a script on images (all, if none is named) as QuPath does: ids of the detections of each then."""
    ids = [entry.entry_id for entry in entries or project.images]
    return [
        json.loads(line) for line in _java("groovy_runs.py", project, script, [*words, *ids], environment)
    ]


def call(project: Project, script: str, code: str, environment: Mapping[str, str] | None = None) -> Any:
    """What Groovy gives that calls the functions of a script on the first image, which is saved then."""
    lines = _java("groovy_calls.py", project, script, [project.images[0].entry_id], environment, code)
    return json.loads(lines[-1])


def _java(
    program: str,
    project: Project,
    script: str,
    words: list[str],
    environment: Mapping[str, str] | None,
    code: str = "",
) -> list[str]:
    require_groovy()
    path = Path(__file__).with_name(program)
    command = [sys.executable, str(path), str(project.path), str(shipped("groovy") / script), *words]
    done = subprocess.run(
        command,
        input=code,
        capture_output=True,
        timeout=180,
        encoding="utf-8",
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()


def drawn(x: float, y: float) -> PathObject:
    roi = Roi(RoiKind.RECTANGLE, box(x, y, x + 20, y + 20))
    return PathObject(uuid4(), ObjectKind.ANNOTATION, roi, PathClass("Mitosis", -65536))


def annotate(project: Project, hour: int, *places: tuple[float, ...]) -> None:
    """A run at that hour which finds mitoses at these places of the first image, and leaves the project.

    A place is x, y and, where they matter, the probabilities of a mitosis (else 0.9) and of an atypical
    one (0.2).
    """
    run = next_run(project, hour)
    found = [Detection(x, y, *(rest or (0.9, 0.2)), polygon=Point(x, y).buffer(10)) for x, y, *rest in places]
    result = ImageResult(project.images[0], found, box(0, 0, 400, 400), MicronsPerPixel(0.25))
    store = lambda: NativeStore(project)  # noqa: E731
    write_detections(project, store, [result], run, keep=False, sidecar_only=True, progress=SILENT)


def objects(project: Project) -> list[PathObject]:
    return NativeStore(project).read(project.images[0])


def places(project: Project) -> set[tuple[int, int]]:
    """Where the detections of the first image lie."""
    found = [thing for thing in objects(project) if thing.kind is ObjectKind.DETECTION]
    return {(round(x), round(y)) for x, y in centres(found)}


def change(project: Project, at: tuple[int, int], **changes: object) -> None:
    """What a person does in QuPath to the detection at a place: without ``changes``, delete it."""
    store, entry = NativeStore(project), project.images[0]
    (thing,) = [one for one in store.read(entry) if one.roi and centre(one) == pytest.approx(at, abs=1)]
    assert thing.id is not None
    new = (replace(thing, **changes),) if changes else ()
    store.apply(entry, Edit(frozenset([thing.id]), new, store.fingerprint(entry)))
