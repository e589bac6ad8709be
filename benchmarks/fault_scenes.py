"""Projects on which things go wrong: what is done to them, how it is cut short, and what must hold after.

Used by ``benchmarks/faults.py`` and by the tests.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import cv2
import numpy as np
from shapely.geometry import Point, box

from midog_qupath.detection import Detection
from midog_qupath.errors import MidogError, SafetyError
from midog_qupath.progress import SILENT
from midog_qupath.project.backup import all_backups
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.create import NewImage, create_project
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.ours import Standing, classify
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.restore import restore
from midog_qupath.project.results import ImageResult
from midog_qupath.project.run import new_run
from midog_qupath.project.stores.base import ProjectStore
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.undo import undo_run
from midog_qupath.project.write import write_detections
from midog_qupath.units import MicronsPerPixel

MPP, SIDE = MicronsPerPixel(0.25), 1000
FIRST = [(100.0, 100.0), (300.0, 300.0), (500.0, 100.0), (700.0, 700.0), (300.0, 800.0)]
SECOND = [(110.0, 100.0), (310.0, 300.0), (710.0, 700.0), (500.0, 500.0), (305.0, 800.0)]
#: How a child that did its work, was told that it cannot, or failed otherwise ends.
DONE, REFUSED = 0, 3
Open = Callable[[Project], ProjectStore]


@dataclass(frozen=True)
class Scene:
    """An operation on a project that lies in ``template``, and what stands in its images after it."""

    name: str
    template: Path
    work: Callable[[Project], bool]
    after: tuple[frozenset[tuple[str, float, float]], ...]
    kept: tuple[frozenset[str], ...]


class BrokenPromiseError(Exception):
    """A person's object was lost or changed, a project does not open, or the next run does not complete."""


def make_scenes(folder: Path, opened: Open = NativeStore, real: Path | None = None) -> list[Scene]:
    """Writing a second run, undoing it, and restoring the first state; each on a template of its own.

    ``real``: a QuPath project some images of which are taken with all that people drew in them.
    """
    before = folder / "before"
    project = _real_project(real, before) if real else _generated_project(before)
    annotate(project, opened, FIRST)
    _review(project)
    written = folder / "written"
    shutil.copytree(before, written)
    annotate(open_project(written), opened, SECOND)
    works: list[tuple[str, Path, Callable[[Project], bool]]] = [
        ("annotate", before, lambda project: annotate(project, opened, SECOND)),
        ("undo", written, lambda project: undo(project, opened)),
        ("restore", written, go_back),
    ]
    return [_scene(folder, name, template, work) for name, template, work in works]


def _scene(folder: Path, name: str, template: Path, work: Callable[[Project], bool]) -> Scene:
    done = folder / f"{name}-done"
    shutil.copytree(template, done)
    kept = tuple(theirs(open_project(template)))
    project = open_project(done)
    work(project)
    return Scene(name, template, work, tuple(detections(project)), kept)


def annotate(project: Project, opened: Open, places: Sequence[tuple[float, float]]) -> bool:
    """The real writing with a stand-in for the search; whether all images were written."""
    run = new_run(
        project,
        now=datetime.now(),
        model="stand-in",
        model_sha256="0" * 64,
        threshold=0.5,
        atypical_threshold=0.5,
        class_map=ClassMap(),
        software={},
    )
    found = [Detection(x, y, 0.9, 0.1 + 0.8 * (x > 400), Point(x, y).buffer(12, 8)) for x, y in places]
    area = box(0, 0, SIDE, SIDE)
    results = [ImageResult(entry, found, area, MPP) for entry in project.images]
    report = write_detections(
        project, lambda: opened(project), results, run, keep=False, sidecar_only=False, progress=SILENT
    )
    return not report.failed


def undo(project: Project, opened: Open) -> bool:
    """Undo the second run; where that is done already, it must say so."""
    second = load_manifests(project)[1].run
    try:
        return not undo_run(project, lambda: opened(project), second, SILENT).failed
    except SafetyError:
        # Asked all the same: one killed after its last image leaves a lock that only the next run takes away.
        if all(image.state == "undone" for image in load_manifests(project)[1].images):
            return True
        raise


def go_back(project: Project) -> bool:
    """Restore the images as they were before the second run."""
    restore(project, all_backups(project)[1].time, (), SILENT)
    return True


# ---- what must hold ------------------------------------------------------------------------------


def theirs(project: Project) -> list[frozenset[str]]:
    """Of each image everything that is not ours and untouched, in full: what nothing may change."""
    store, manifests = NativeStore(project), load_manifests(project)
    images = []
    for entry in project.images:
        found = store.read(entry)
        whose = classify(found, manifests)
        images.append(
            frozenset(
                repr(one) for one, its in zip(found, whose, strict=True) if its is not Standing.UNTOUCHED
            )
        )
    return images


def detections(project: Project) -> list[frozenset[tuple[str, float, float]]]:
    """Of each image class and place of every detection."""
    store = NativeStore(project)
    images = []
    for entry in project.images:
        rows = [item for item in store.read(entry) if item.kind is ObjectKind.DETECTION and item.roi]
        boxes = [(str(item.class_name), *item.roi.geometry.bounds[:2]) for item in rows if item.roi]
        images.append(frozenset((name, round(x, 1), round(y, 1)) for name, x, y in boxes))
    return images


def require_people(folder: Path, scene: Scene) -> None:
    """The project opens, and everything of people is as it was; BrokenPromiseError where not."""
    try:
        found = theirs(open_project(folder))
    except MidogError as error:
        raise BrokenPromiseError(f"the project does not open: {error}") from error
    for index, (was, now) in enumerate(zip(scene.kept, found, strict=True)):
        if not was <= now:
            raise BrokenPromiseError(f"image {index}: lost or changed: {sorted(was - now)[:1]}")


def require_finished(folder: Path, scene: Scene) -> None:
    """The same work, done again, comes to its end and to the same result."""
    project = open_project(folder)
    try:
        whole = scene.work(project)
    except MidogError as error:
        raise BrokenPromiseError(f"the next run fails: {error}") from error
    if not whole:
        raise BrokenPromiseError("the next run leaves images out")
    require_people(folder, scene)
    if tuple(detections(project)) != scene.after:
        raise BrokenPromiseError(f"the next run ends elsewhere: {detections(project)}")
    ours = project.folder / "midog-qupath"
    left = [path for path in project.folder.rglob("*") if path.name.endswith((".tmp", ".midog-before"))]
    if (ours / "lock").exists() or left:
        raise BrokenPromiseError(f"left lying: {left or 'the lock'}")


# ---- faults --------------------------------------------------------------------------------------


def in_child(work: Callable[[], bool], delay_s: float | None = None) -> tuple[int, float]:
    """Do ``work`` in a forked process; kill it after ``delay_s``. How it ended (negative: by which signal),
    and seconds it ran."""
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(MidogError):
            code = REFUSED
            code = DONE if work() else REFUSED
        os._exit(code)
    if delay_s is not None:
        time.sleep(delay_s)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - started


def fresh(scene: Scene, folder: Path) -> Path:
    """A copy of a scene's project, in place of the last one."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(scene.template, folder)
    return folder


def kill(scene: Scene, folder: Path, delay_s: float) -> bool:
    """Kill the work after ``delay_s``, and look; whether it was killed before its end."""
    project = open_project(fresh(scene, folder))
    ended, _ = in_child(lambda: scene.work(project), delay_s)
    if ended not in (DONE, -signal.SIGKILL):
        raise BrokenPromiseError(f"the work ended with {ended}")
    require_people(folder, scene)
    require_finished(folder, scene)
    return ended != DONE


class SmallDisk:
    """A disk of its own of which all but a few bytes can be taken; needs the right to mount one."""

    def __init__(self, folder: Path, megabytes: int = 16) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        subprocess.run(mount, check=True, capture_output=True)  # noqa: S603

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *args: object) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)  # noqa: S603, S607

    def leave(self, free: int) -> None:
        """Take all but ``free`` bytes (whole pages)."""
        with (self.folder / "ballast").open("wb", buffering=0) as stream:
            with suppress(OSError):
                while True:
                    stream.write(bytes(1 << 16))
            with suppress(OSError):
                while True:
                    stream.write(bytes(1 << 12))
            size = stream.tell()
            stream.truncate(max(0, size - free))

    def clear(self) -> None:
        """Give it back."""
        (self.folder / "ballast").unlink(missing_ok=True)


def fill(scene: Scene, disk: SmallDisk, free: int) -> bool:
    """Do the work on a disk with ``free`` bytes left, and look; whether the disk was too small."""
    disk.clear()
    folder = fresh(scene, disk.folder / "p")
    project = open_project(folder)
    disk.leave(free)
    ended, _ = in_child(lambda: scene.work(project))
    disk.clear()
    if ended not in (DONE, REFUSED):
        raise BrokenPromiseError(f"a full disk ended the work with {ended}")
    require_people(folder, scene)
    require_finished(folder, scene)
    return ended != DONE


def race(scene: Scene, folder: Path) -> bool:
    """Two at once, and look; whether the second was refused."""
    project = open_project(fresh(scene, folder))
    children = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            code = REFUSED
            with suppress(MidogError):
                code = DONE if scene.work(project) else REFUSED
            os._exit(code)
        children.append(pid)
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    if DONE not in ends or not set(ends) <= {DONE, REFUSED}:
        raise BrokenPromiseError(f"two writers ended with {ends}")
    require_people(folder, scene)
    require_finished(folder, scene)
    return REFUSED in ends


def save_in_between(scene: Scene, folder: Path, delay_s: float) -> bool:
    """A QuPath that has an image open saves it with one more annotation, and look.

    Whether our work was told, or its result overwritten by that save (the last one wins, as QuPath does it).
    """
    project = open_project(fresh(scene, folder))
    entry = project.images[0]
    held, new = NativeStore(project).read(entry), _person(uuid4(), 650, 50)
    with_new = _as_saved(project, folder, entry, [*held, new])
    pid = os.fork()
    if pid == 0:
        code = REFUSED
        with suppress(MidogError):
            code = DONE if scene.work(project) else REFUSED
        os._exit(code)
    time.sleep(delay_s)
    _save_as_qupath(entry.data_dir, with_new)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if ended not in (DONE, REFUSED):
        raise BrokenPromiseError(f"a save in between ended the work with {ended}")
    require_people(folder, scene)
    present = {item.id for item in NativeStore(open_project(folder)).read(entry)}
    kept = any(_holds(path, new.id) for path in folder.glob("midog-qupath/backups/*/data/*/data.qpdata"))
    if new.id not in present and not (scene.name == "restore" and kept):
        raise BrokenPromiseError("what a person saved in between is gone")
    return ended == REFUSED


def _save_as_qupath(folder: Path, new: dict[str, bytes]) -> None:
    data = folder / "data.qpdata"
    aside = folder / "data.qpdata.bkp"
    with suppress(OSError):
        os.replace(data, aside)
    data.write_bytes(new["data.qpdata"])
    aside.unlink(missing_ok=True)
    (folder / "summary.json").write_bytes(new["summary.json"])


def _as_saved(
    project: Project, folder: Path, entry: ImageEntry, objects: list[PathObject]
) -> dict[str, bytes]:
    """The files of an image as they are with these objects."""
    other = folder.with_name(folder.name + "-gui")
    shutil.rmtree(other, ignore_errors=True)
    elsewhere = replace(entry, data_dir=other)
    NativeStore(project).create(elsewhere, [replace(item, parent_id=None) for item in objects])
    return {name: (other / name).read_bytes() for name in ("data.qpdata", "summary.json")}


def _holds(path: Path, identity: UUID | None) -> bool:
    return str(identity).encode() in path.read_bytes()


# ---- projects ------------------------------------------------------------------------------------


def _generated_project(folder: Path) -> Project:
    folder.mkdir(parents=True)
    images = []
    for number in range(3):
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), 230, np.uint8))
        images.append(NewImage(path, MPP))
    project = create_project(folder, images)
    rng = random.Random(0)
    for entry in project.images:
        drawn = [_person(UUID(int=n + 1), rng.randrange(900), rng.randrange(900)) for n in range(40)]
        (entry.data_dir / "data.qpdata").unlink(missing_ok=True)
        NativeStore(project).create(entry, drawn)
    return project


def _real_project(source: Path, folder: Path) -> Project:
    """Every 14th image of a project, without pixels: nothing here looks at them."""
    ignored = shutil.ignore_patterns("images", "geojson", "*.jpg", "midog-qupath", "labels")
    shutil.copytree(source, folder, ignore=ignored)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    project = open_project(folder)
    raw = project.path.read_bytes()
    import orjson

    content = orjson.loads(raw)
    content["images"] = content["images"][::14]
    project.path.write_bytes(orjson.dumps(content))
    kept = {str(image["entryID"]) for image in content["images"]}
    for path in (folder / "data").iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path)
    return open_project(folder)


def _person(identity: UUID, x: float, y: float) -> PathObject:
    return PathObject(
        id=identity,
        kind=ObjectKind.ANNOTATION,
        roi=Roi(RoiKind.RECTANGLE, box(x, y, x + 40, y + 40)),
        path_class=PathClass("Mitosis", -65536),
        name=f"by hand at {x}",
        measurements={"Votes": 2.0},
        metadata={"by": "a person"},
        locked=True,
    )


def _review(project: Project) -> None:
    """A person reclassifies the second detection, deletes the fourth, and reviews the fifth."""
    store = NativeStore(project)
    ours = {
        written.id: written for one in load_manifests(project) for i in one.images for written in i.objects
    }
    from midog_qupath.project.stores.base import Edit

    for entry in project.images:
        old, new = [], []
        for item in store.read(entry):
            written = ours.get(item.id) if item.id else None
            place = (round(written.x), round(written.y)) if written else None
            if place in ((300, 300), (700, 700), (300, 800)):
                old.append(item.id)
            if place == (300, 300):
                new.append(replace(item, path_class=PathClass("Non-mitosis", -8421505)))
            if place == (300, 800):
                new.append(replace(item, measurements={**item.measurements, "Reviewed": 1.0}))
        store.apply(entry, Edit(frozenset(old), tuple(new), store.fingerprint(entry)))
