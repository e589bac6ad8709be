"""The generated project is a project like any: it opens, and holds the ground truth that was drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import shapely

from midog_qupath.demo.field import render_field
from midog_qupath.demo.project import drawn_objects, generate_project, plan_images
from midog_qupath.demo.stain import STAINS
from midog_qupath.errors import ProjectError
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.ground_truth import ground_truth
from midog_qupath.project.model import Project, RoiKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.shapes import same_shape
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.slides.open import open_slide

SIZE = 384


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    path = generate_project(
        tmp_path_factory.mktemp("demo") / "new", seed=1, count=16, size_px=SIZE, domains=2
    )
    return open_project(path)


def test_pixels_are_those_of_the_seed(project: Project) -> None:
    for entry, plan in list(zip(project.images, plan_images(1, 16, 2), strict=True))[:2]:
        assert entry.path is not None
        with open_slide(entry.path) as slide:
            field = render_field(plan.seed, plan.stain, SIZE)
            assert np.array_equal(slide.read(0, 0, SIZE, SIZE, 1.0), field.image)


def test_the_store_reads_what_was_drawn(project: Project) -> None:
    store = NativeStore(project)
    for entry, plan in list(zip(project.images, plan_images(1, 16, 2), strict=True))[:12:2]:
        drawn = drawn_objects(plan, render_field(plan.seed, plan.stain, SIZE))
        read = store.read(entry)
        assert [(o.id, o.class_name) for o in read] == [(o.id, o.class_name) for o in drawn]
        for one, other in zip(read, drawn, strict=True):
            assert one.roi is not None
            assert other.roi is not None
            assert one.roi.kind is other.roi.kind
            assert same_shape(one.roi.geometry, other.roi.geometry)


def test_every_class_and_every_shape_a_pathologist_uses_is_there(project: Project) -> None:
    objects = [thing for entry in project.images for thing in NativeStore(project).read(entry)]
    assert {thing.class_name for thing in objects} == {item.name for item in ClassMap().path_classes()}
    kinds = {thing.roi.kind for thing in objects if thing.roi}
    assert kinds == {RoiKind.POLYGON, RoiKind.RECTANGLE, RoiKind.ELLIPSE, RoiKind.POINTS}
    points = [t.roi.geometry for t in objects if t.roi and t.roi.kind is RoiKind.POINTS]
    assert max(len(shapely.get_parts(geometry)) for geometry in points) > 1


def test_ground_truth_reads_labelled_extent_and_types(project: Project) -> None:
    extents: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    for entry in project.images:
        truth = ground_truth(entry, NativeStore(project).read(entry), ClassMap())
        assert not truth.ignored
        assert all(thing.inside for thing in truth.objects)
        extents[truth.extent] += 1
        roles.update(thing.role for thing in truth.objects)
    assert extents == {"whole": 14, "regions": 2}
    assert min(roles[role] for role in ("normal", "atypical", "mitosis", "non_mitosis")) > 0


def test_every_laboratory_has_cases_for_all_three_splits() -> None:
    cases = defaultdict(set)
    for plan in plan_images(0, 24, 3):
        cases[plan.metadata["domain"]].add(plan.case)
    assert set(cases) == {stain.name for stain in STAINS[:3]}
    assert {len(found) for found in cases.values()} == {5}


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ProjectError, match="not empty"):
        generate_project(tmp_path, count=1, size_px=128, domains=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("count", "domains"), [(2, 3), (24, 0), (24, len(STAINS) + 1)])
def test_numbers_that_do_not_go_together_are_refused(count: int, domains: int) -> None:
    with pytest.raises(ProjectError, match="laboratories"):
        plan_images(0, count, domains)
