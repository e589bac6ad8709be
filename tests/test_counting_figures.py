"""What counts, once each; the score of a published table; intervals of a count."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from dataset_project import label, square
from inference_standin import Command, painted, painted_project, standin_bundle
from shapely.geometry import MultiPoint, Point, box
from store_objects import files, require_same

from midog_qupath.counting.count import CountOptions, count_figures, count_project
from midog_qupath.counting.figures import Figure, counted_figures
from midog_qupath.counting.interval import count_interval, distribution
from midog_qupath.counting.nottingham import SOURCE, field_area_mm2, mitotic_score, per_ten_fields
from midog_qupath.counting.result import Settings
from midog_qupath.counting.write import write_into_project
from midog_qupath.dataset.read_image import ImageReader
from midog_qupath.evaluation.truth import people
from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.progress import SILENT
from midog_qupath.project.classes import ClassMap
from midog_qupath.project.manifest import load_manifests
from midog_qupath.project.model import (
    COUNT_MEASUREMENT,
    ImageEntry,
    ObjectKind,
    PathClass,
    PathObject,
    Roi,
    RoiKind,
    ServerBuilder,
)
from midog_qupath.project.ours import Standing, ours_state, standing, untouched_hotspots
from midog_qupath.project.plan import plan
from midog_qupath.project.stores.base import Edit
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.stores.paquo import PaquoStore


@pytest.fixture
def rng():
    """Random numbers whose seed is shown when a test fails."""
    seed = int(np.random.default_rng().integers(2**32))
    sys.stdout.write(f"seed {seed}\n")
    return np.random.default_rng(seed)


# ---- which objects count -------------------------------------------------------------------------


def thing(class_name, where, kind=ObjectKind.ANNOTATION, probability=None, number=[0]):  # noqa: B006
    number[0] += 1
    geometry = where if not isinstance(where, tuple) else square(*where)
    roi = Roi(RoiKind.POINTS if isinstance(geometry, (Point, MultiPoint)) else RoiKind.POLYGON, geometry)
    measurements = {"Mitosis probability": probability, "midog run": 1.0} if probability is not None else {}
    return PathObject(UUID(int=number[0]), kind, roi, PathClass(class_name), measurements=measurements)


def found(class_name, x, y, probability):
    return thing(class_name, (x, y), ObjectKind.DETECTION, probability)


def words(objects, state=None, threshold=0.0):
    whose = state or {}

    def standing_of(item):
        default = Standing.UNTOUCHED if item.kind is ObjectKind.DETECTION else Standing.THEIRS
        return whose.get(item.id, default)

    counted = counted_figures(objects, standing_of, ClassMap(), 30.0, threshold)
    return sorted((figure.word, round(figure.x), round(figure.y), figure.role) for figure in counted)


def test_peoples_mitoses_count_each_point_of_several_and_nothing_else():
    objects = [
        thing("Mitosis", (100, 100)),
        thing("Mitosis: Atypical", (110, 100)),
        thing("Mitosis: Metaphase", MultiPoint([(300, 300), (302, 300)])),
        thing("Non-mitosis", (500, 500)),
        thing("Region*", box(0, 0, 900, 900)),
        thing("Tumor", (700, 700)),
    ]
    assert words(objects) == [
        ("person", 100, 100, "mitosis"),
        ("person", 110, 100, "atypical"),
        ("person", 300, 300, "mitosis"),
        ("person", 302, 300, "mitosis"),
    ]


def test_a_detection_near_a_persons_figure_is_that_figure():
    drawn = thing("Mitosis", (100, 100))
    on_the_edge, beyond = found("Mitosis: Normal", 130, 100, 0.9), found("Mitosis: Normal", 131, 100, 0.8)
    assert words([drawn, on_the_edge]) == [("person", 100, 100, "mitosis")]
    assert words([drawn, beyond]) == [("person", 100, 100, "mitosis"), ("unreviewed", 131, 100, "normal")]


def test_reviewed_counts_and_rejected_does_not():
    kept, other, named = (found("Mitosis: Normal", x, 100, 0.6) for x in (100, 200, 300))
    rejected = found("Non-mitosis", 400, 100, 0.99)
    state = {item.id: Standing.TOUCHED for item in (kept, named, rejected)}
    assert words([kept, other, named, rejected], state) == [
        ("reviewed", 100, 100, "normal"),
        ("reviewed", 300, 100, "normal"),
        ("unreviewed", 200, 100, "normal"),
    ]


def test_a_look_alike_drawn_on_a_detection_rejects_it_unless_it_was_reviewed():
    detection, drawn = found("Mitosis: Normal", 100, 100, 0.9), thing("Non-mitosis", (105, 100))
    assert words([detection, drawn]) == []
    assert words([detection, drawn], {detection.id: Standing.TOUCHED}) == [("reviewed", 100, 100, "normal")]


def test_the_threshold_is_for_unreviewed_ones():
    low, high = found("Mitosis: Normal", 100, 100, 0.4), found("Mitosis: Normal", 200, 100, 0.5)
    assert words([low, high], threshold=0.5) == [("unreviewed", 200, 100, "normal")]
    reviewed = {low.id: Standing.TOUCHED}
    assert len(words([low, high], reviewed, threshold=0.5)) == 2


def test_detections_of_two_runs_on_one_figure_count_once():
    weak, strong = found("Mitosis: Normal", 100, 100, 0.6), found("Mitosis: Atypical", 105, 100, 0.9)
    assert words([weak, strong]) == [("unreviewed", 105, 100, "atypical")]
    assert words([weak, strong], {weak.id: Standing.TOUCHED}) == [("reviewed", 100, 100, "normal")]


# ---- the score -----------------------------------------------------------------------------------


def test_the_score_is_the_published_tables():
    # Entries as printed in the source, at both limits: (field, last of score 1, last of score 2).
    printed = [(0.40, 4, 9), (0.44, 5, 11), (0.50, 7, 14), (0.55, 8, 17), (0.59, 9, 19), (0.63, 11, 22),
               (0.69, 13, 27)]  # fmt: skip
    for field, first, second in printed:
        assert [mitotic_score(n, field) for n in (first, first + 1, second, second + 1)] == [1, 2, 2, 3]
    assert "College of American Pathologists" in SOURCE
    # The areas printed beside the diameters.
    assert field_area_mm2(0.59) == pytest.approx(0.273, abs=5e-4)
    assert field_area_mm2(0.40) == pytest.approx(0.125, abs=1e-3)


def test_scores_follow_the_area_and_end_where_the_table_ends():
    assert mitotic_score(0, 0.39) is None
    assert mitotic_score(0, 0.70) is None
    assert mitotic_score(0, 0.394) is None
    assert mitotic_score(0, 0.395001) == 1
    # Half a mitosis is rounded up.
    assert [mitotic_score(n, 0.59) for n in (9.49, 9.5)] == [1, 2]
    assert per_ten_fields(10.0, 0.55) == pytest.approx(23.76, abs=0.01)


# ---- the interval --------------------------------------------------------------------------------


def test_the_distribution_is_that_of_every_outcome(rng):
    for count in range(7):
        chances = rng.random(count)
        expected = np.zeros(count + 1)
        for outcome in itertools.product((0, 1), repeat=count):
            expected[sum(outcome)] += np.prod(
                [p if o else 1 - p for p, o in zip(chances, outcome, strict=True)]
            )
        assert distribution(chances) == pytest.approx(expected)


def test_many_detections_have_a_distribution_too(rng):
    chances = rng.random(5000)
    found = distribution(chances)
    assert found.sum() == pytest.approx(1)
    assert (found @ np.arange(5001)) == pytest.approx(chances.sum())
    interval = count_interval(chances.tolist(), certain=7)
    # Nearly normal at this size.
    spread = 1.96 * np.sqrt((chances * (1 - chances)).sum())
    assert interval.expected == pytest.approx(chances.sum() + 7)
    assert (interval.low, interval.high) == pytest.approx(
        (chances.sum() + 7 - spread, chances.sum() + 7 + spread), abs=1.5
    )


def test_the_interval_holds_what_it_says(rng):
    chances = rng.random(40)
    interval = count_interval(chances.tolist())
    drawn = (rng.random((20_000, 40)) < chances).sum(axis=1)
    assert ((drawn >= interval.low) & (drawn <= interval.high)).mean() >= 0.945
    assert count_interval([], certain=3) == count_interval([1.0, 1.0, 1.0])
    assert (count_interval([0.5]).low, count_interval([0.5]).high) == (0, 1)


# ---- one image -----------------------------------------------------------------------------------


def entry():
    builder = ServerBuilder("uri", "file:/a.png")
    return ImageEntry("1", "a", builder, None, False, 9000, 9000, 0.25, {}, None, "a")


def counted(figures, calibrated, settings=None, tissue=None):
    ground = tissue or box(0, 0, 9000, 9000)
    return count_figures(entry(), figures, ground, 0.25, settings or Settings(), calibrated)


def test_figures_of_a_count_follow_from_it():
    people = [Figure(4000 + 10 * i, 4000, "person", "mitosis") for i in range(12)]
    detections = [Figure(4000, 4100 + 10 * i, "unreviewed", "atypical", 0.75, 3) for i in range(4)]
    reviewed = [Figure(4200, 4200, "reviewed", "normal", 0.5, 3)]
    far = [Figure(8900, 100, "unreviewed", "normal", 0.9, 3)]
    image = counted([*people, *detections, *reviewed, *far], {3: True})
    assert (image.total, image.in_all) == (17, 18)
    assert [image.by(word) for word in ("person", "reviewed", "unreviewed")] == [12, 1, 4]
    assert image.atypical_share == pytest.approx(4 / 5)
    assert image.per_mm2 == pytest.approx(8.5)
    assert image.per_10_hpf == pytest.approx(8.5 * 10 * field_area_mm2(0.55))
    assert image.score == 3
    assert image.interval.expected == pytest.approx(16)
    assert (image.interval.low, image.interval.high) == (14, 17)


@pytest.mark.parametrize(("calibrated", "says"), [({3: False}, "not calibrated"), ({}, "no record")])
def test_no_interval_where_the_model_is_not_calibrated(calibrated, says):
    image = counted([Figure(4000, 4000, "unreviewed", "normal", 0.9, 3)], calibrated)
    assert image.interval is None
    assert says in image.as_row()["no_interval_because"]
    # What people said needs none.
    assert counted([Figure(4000, 4000, "person", "normal")], calibrated).interval.low == 1


def test_a_score_needs_an_area_like_ten_fields():
    figures = [Figure(4000, 4000, "person", "mitosis")]
    assert counted(figures, {}, Settings(2.37)).score == 1
    assert counted(figures, {}, Settings(0.1)).score is None
    assert counted(figures, {}, Settings(2.0, field_diameter_mm=0.3)).score is None


def test_a_small_field_is_counted_whole_and_has_no_score():
    image = counted([Figure(100, 100, "person", "mitosis")], {}, tissue=box(0, 0, 1000, 1000))
    assert image.spot is None
    assert (image.total, image.score) == (1, None)
    assert image.area_mm2 == pytest.approx(0.0625)
    assert image.per_mm2 == pytest.approx(16)


# ---- a project -----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    images = {"a.png": painted(600, 600, [(150, 150), (450, 450)]), "b.png": painted(600, 600, [])}
    labels = {
        "a.png": [label("Mitosis", square(150, 150), 1), label("Tumor", box(0, 0, 300, 300), 2)],
        "b.png": [label("Mitosis", square(300, 300), 1)],
    }
    return painted_project(tmp_path / "p", images, labels)


@pytest.fixture
def annotated(project):
    model = project.ours / "models" / "now" / "model.safetensors"
    factory = lambda: NativeStore(project)  # noqa: E731
    annotate_project(project, factory, standin_bundle(), model, AnnotateOptions(), SILENT)
    return project


def count(project, **options):
    settings = Settings(area_mm2=0.005)
    with NativeStore(project) as store:
        return count_project(project, store, CountOptions(settings=settings, **options))


def test_a_project_is_counted_image_by_image(annotated):
    first, second = count(annotated).images
    assert (first.total, first.by("person"), first.in_all) == (1, 1, 2)
    assert (second.total, second.by("person")) == (1, 1)
    # The stand-in is not calibrated.
    assert load_manifests(annotated)[0].calibrated is False
    everything = count(annotated, regions="Tumor").images
    assert [image.entry.name for image in everything] == ["a.png"]
    assert everything[0].in_all == 1


def test_hotspots_in_the_project_are_ours_and_never_truth(annotated):
    entry, store = annotated.images[0], NativeStore(annotated)
    before = store.read(entry)
    report = write_into_project(annotated, lambda: NativeStore(annotated), count(annotated), SILENT)
    assert (report.written, report.replaced, report.errors) == (2, 0, {})
    after = store.read(entry)
    (hotspot,) = [item for item in after if COUNT_MEASUREMENT in item.measurements]
    assert [item for item in after if item is not hotspot] == before
    assert (hotspot.kind, hotspot.class_name, hotspot.locked) == (ObjectKind.ANNOTATION, "Hotspot", True)
    assert hotspot.measurements["Mitotic count"] == 1
    assert hotspot.roi.kind is RoiKind.ELLIPSE
    state = ours_state(annotated)
    assert state(hotspot) is Standing.COUNT
    # Neither trains nor is measured, nor is it a region, whatever classes are called.
    assert not people(annotated)(hotspot)
    assert not ImageReader._teaches(Reader(state), hotspot)
    # A later run leaves it, and puts detections near its middle as if it were not there.
    new = [replace(item, id=UUID(int=99)) for item in before if item.kind is ObjectKind.DETECTION][:1]
    centred = replace(hotspot, roi=Roi(RoiKind.POLYGON, new[0].roi.geometry))
    free = plan([centred], (), new, entry_id="1", area=box(0, 0, 600, 600), mpp=0.25, keep=False)
    assert (free.remove, len(free.add)) == (frozenset(), 1)


class Reader:
    """As much of an image reader as says whose word counts."""

    def __init__(self, standing):
        self.standing = standing


def test_a_new_count_replaces_what_nobody_touched(annotated):
    write_into_project(annotated, lambda: NativeStore(annotated), count(annotated), SILENT)
    report = write_into_project(annotated, lambda: NativeStore(annotated), count(annotated), SILENT)
    assert (report.written, report.replaced) == (2, 2)
    store, entry = NativeStore(annotated), annotated.images[0]
    objects = store.read(entry)
    (hotspot,) = [item for item in objects if COUNT_MEASUREMENT in item.measurements]
    assert untouched_hotspots(objects) == {hotspot.id}
    child = replace(label("Mitosis", square(20, 20), 77), parent_id=hotspot.id)
    for changed in (
        replace(hotspot, name="mine"),
        replace(hotspot, path_class=PathClass("Region*")),
        replace(hotspot, roi=Roi(RoiKind.ELLIPSE, square(50, 50))),
        replace(hotspot, metadata={}),
    ):
        assert untouched_hotspots([changed]) == frozenset()
    assert untouched_hotspots([hotspot, child]) == frozenset()
    # Made a region, it is a person's.
    assert standing(replace(hotspot, path_class=PathClass("Region*")), {}) is Standing.THEIRS


@pytest.mark.qupath
def test_through_qupath_too_a_new_count_replaces_what_nobody_touched(annotated):
    qupath, entry = (lambda: PaquoStore(annotated)), annotated.images[0]
    native = NativeStore(annotated)
    before = native.read(entry)
    assert write_into_project(annotated, qupath, count(annotated), SILENT).errors == {}
    report = write_into_project(annotated, qupath, count(annotated), SILENT)
    assert (report.written, report.replaced, report.errors) == (2, 2, {})
    after = native.read(entry)
    assert len(untouched_hotspots(after)) == 1
    require_same([item for item in after if item.id not in untouched_hotspots(after)], before)


def test_the_sidecar_store_puts_no_count_into_the_project(annotated, monkeypatch, capsys):
    before = files(annotated.folder)
    code, _, err = Command(monkeypatch, capsys)(
        "count", annotated.path, "--store", "sidecar", "--area", "0.005", "--write"
    )
    assert code == 2
    assert "mitotic_count" in err
    assert files(annotated.folder) == before


def test_an_annotation_of_a_person_cannot_be_taken_out(annotated):
    store, entry = NativeStore(annotated), annotated.images[0]
    (person, *_) = [item for item in store.read(entry) if item.class_name == "Mitosis"]
    data = (entry.data_dir / "data.qpdata").read_bytes()
    with pytest.raises(Exception, match="not a detection of ours"):
        store.apply(entry, Edit(frozenset({person.id}), (), store.fingerprint(entry)))
    assert (entry.data_dir / "data.qpdata").read_bytes() == data


def test_the_command_prints_and_keeps_the_same(annotated, monkeypatch, capsys, tmp_path):
    command = Command(monkeypatch, capsys)
    table = tmp_path / "table.csv"
    words = ("count", annotated.path, "--store", "native", "--area", "0.005", "--csv", table)
    code, out, _ = command(*words, "--json", "--write")
    assert code == 0
    data = json.loads(out)
    kept = annotated.ours / "counts" / data["count"]
    assert json.loads((kept / "count.json").read_text()) == {
        name: value for name, value in data.items() if name not in ("folder", "files")
    }
    assert data["files"]["1"] == str(kept / "a.geojson")
    assert (kept / "count.csv").read_bytes() == table.read_bytes()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["count"] for row in rows] == ["1", "1"]
    assert (kept / "a.geojson").is_file()
    code, out, _ = command(*words)
    assert code == 0
    assert "For research, not for diagnosis." in out
    assert "1 drawn, 0 reviewed, 0 unreviewed" in out


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--image", "z*"), 1, "No image of the project is called z*"),
        (("--regions", "Nothing"), 1, "No image has an annotation of class Nothing"),
        (("--area", "0"), 2, "0.001"),
        (("--area", "nan"), 2, "nan"),
        (("--field-diameter", "55"), 2, "0.1"),
        (("--class-map", "mitosis"), 1, "no class mapping"),
        (("--shape", "square"), 2, "square"),
    ],
)
def test_bad_input_is_an_error_with_a_remedy(project, monkeypatch, capsys, words, status, says):
    code, out, err = Command(monkeypatch, capsys)("count", project.path, "--store", "native", *words)
    assert (code, out) == (status, "")
    assert says in err


def test_an_image_that_cannot_be_read_is_named(project, monkeypatch, capsys):
    (project.folder / "images" / "a.png").write_bytes(b"")
    code, out, err = Command(monkeypatch, capsys)("count", project.path, "--store", "native", "--json")
    assert code == 1
    assert list(json.loads(out)["failed"]) == ["a.png"]
    assert "a.png" in err
