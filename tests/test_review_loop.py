"""The loop: annotate, review, export what was decided, train further, annotate again. With no QuPath."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from shapely import box
from shapely.affinity import translate
from test_main_job import TINY, run

from midog_qupath.dataset.store import Dataset
from midog_qupath.demo.project import generate_project
from midog_qupath.project.model import ImageEntry, ObjectKind, PathClass, PathObject, Project, Roi, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.shapes import centre, centres
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore

MATCH_PX = 30  # 7.5 um at 0.25 um per pixel
STAYING = ("accepted", "rejected", "moved", "typed", "missed")


@dataclass(frozen=True)
class Decision:
    """What a pathologist did to a detection: how it is now, or how it was where it is deleted; or drew."""

    entry: ImageEntry
    thing: PathObject


def detections(things: list[PathObject]) -> list[PathObject]:
    return [thing for thing in things if thing.kind is ObjectKind.DETECTION]


def detections_apart(project: Project) -> list[Decision]:
    """Detections in all images that no other one and no person's figure is near."""
    found = []
    for entry in project.images:
        things = [t for t in NativeStore(project).read(entry) if t.class_name != "Region*"]
        places = np.array(centres(things))
        found += [
            Decision(entry, thing)
            for thing in detections(things)
            if (np.hypot(*(places - centre(thing)).T) < MATCH_PX + 10).sum() == 1
        ]
    return found


def missed(project: Project) -> Decision:
    """A mitosis that a person draws where nothing was detected, as far from everything as there is room."""
    entry = project.images[0]
    taken = centres([t for t in NativeStore(project).read(entry) if t.class_name != "Region*"])
    places = [(x, y) for x in range(40, 217, 4) for y in range(40, 217, 4)]
    away = [min(np.hypot(x - a, y - b) for a, b in taken) for x, y in places]
    assert max(away) > MATCH_PX
    x, y = places[int(np.argmax(away))]
    roi = Roi(RoiKind.RECTANGLE, box(x - 12, y - 12, x + 12, y + 12))
    return Decision(entry, PathObject(uuid4(), ObjectKind.ANNOTATION, roi, PathClass("Mitosis", -65536)))


def review(project: Project) -> dict[str, Decision]:
    """What a pathologist does in QuPath to five detections, and one that was missed; by the name of it."""
    store = NativeStore(project)
    kept, wrong, gone, moved, typed, *_ = detections_apart(project)
    drawn = missed(project)

    def changed(decision: Decision, **changes: object) -> Decision:
        return replace(decision, thing=replace(decision.thing, **changes))

    def looked_at(decision: Decision) -> dict[str, float]:
        return {**decision.thing.measurements, "Reviewed": 1.0}

    done = {
        "accepted": changed(kept, measurements=looked_at(kept)),
        "rejected": changed(wrong, path_class=PathClass("Non-mitosis", -256), measurements=looked_at(wrong)),
        "moved": changed(moved, roi=Roi(RoiKind.POLYGON, translate(moved.thing.roi.geometry, 5, 3))),
        "typed": changed(typed, path_class=PathClass("Mitosis: Atypical", -256)),
    }
    for decision in (*done.values(), gone):
        entry, new = decision.entry, () if decision is gone else (decision.thing,)
        store.apply(entry, Edit(frozenset([decision.thing.id]), (), store.fingerprint(entry)))
        store.apply(entry, Edit(frozenset(), new, store.fingerprint(entry)))
    done["missed"] = drawn
    edit = Edit(frozenset(), (), store.fingerprint(drawn.entry), labels=(drawn.thing,))
    store.apply(drawn.entry, edit)
    # As they are stored: a class that the image knows has its colour there.
    stored = {thing.id: thing for entry in project.images for thing in store.read(entry)}
    done = {what: replace(decision, thing=stored[decision.thing.id]) for what, decision in done.items()}
    return {**done, "deleted": gone}


@pytest.mark.long
def test_what_a_person_decided_teaches_and_stays(tmp_path: Path) -> None:
    path = generate_project(tmp_path / "project", seed=3, count=18, size_px=256)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY, encoding="utf-8")
    project, tiny = str(path), ("--recipe", str(recipe))
    annotate = ("annotate", project, "--store", "native", "--threshold", "0.02", "--json")
    run("export", project, "--store", "native")
    run("train", project, *tiny, "--from", "none")
    run(*annotate)
    opened = open_project(path)
    decided = review(opened)

    run("export", project, "--store", "native")
    dataset = Dataset.open(opened.ours / "dataset")
    assert labels_at(dataset, decided) == {
        "accepted": decided["accepted"].thing.class_name,
        "rejected": "Non-mitosis",
        "moved": decided["moved"].thing.class_name,
        "typed": "Mitosis: Atypical",
        "missed": "Mitosis",
        "deleted": "Non-mitosis",
    }
    ours = {str(thing.id) for entry in opened.images for thing in detections(NativeStore(opened).read(entry))}
    untouched = ours - {str(decision.thing.id) for decision in decided.values()}
    assert untouched
    assert not {row.source_id for row in dataset.objects} & untouched

    (first,) = (opened.ours / "models").iterdir()
    run("train", project, *tiny, "--from", str(first))
    assert len(list((opened.ours / "models").iterdir())) == 2
    report = json.loads(run(*annotate).stdout)
    assert report["removed"] == len(untouched)
    require_decided(opened, decided)


def labels_at(dataset: Dataset, decided: dict[str, Decision]) -> dict[str, str | None]:
    """What the dataset says where somebody decided."""
    rows = {(row.image, round(row.x), round(row.y)): row.label for row in dataset.objects}
    places = {what: (d.entry.name, *map(round, centre(d.thing))) for what, d in decided.items()}
    return {what: rows.get(place) for what, place in places.items()}


def require_decided(project: Project, decided: dict[str, Decision]) -> None:
    """What was reviewed is as it was left; no new detection is near it, or where one was deleted.

    What was drawn keeps none away: a detection there is one that an evaluation counts as found.
    """
    mine = {decision.thing.id for decision in decided.values()}
    for what, decision in decided.items():
        things = NativeStore(project).read(decision.entry)
        if what in STAYING:
            assert decision.thing in things, what
        if what == "missed":
            continue
        x, y = centre(decision.thing)
        new = [thing for thing in detections(things) if thing.id not in mine]
        assert all(np.hypot(a - x, b - y) > MATCH_PX for a, b in centres(new)), what
