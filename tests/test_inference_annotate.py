"""``annotate``: what is searched, and what comes into the project."""

from __future__ import annotations

import pytest
from dataset_project import label, square
from inference_standin import painted, painted_project, standin_bundle
from shapely.geometry import box

from midog_qupath.errors import GeoJsonError, ModelError, ProjectError, SlideError
from midog_qupath.inference.annotate import annotate_project
from midog_qupath.inference.jobs import AnnotateOptions
from midog_qupath.progress import SILENT
from midog_qupath.project.geojson import read_features, write_features
from midog_qupath.project.model import ObjectKind
from midog_qupath.project.qpproj import open_project
from midog_qupath.project.stores.native import NativeStore

TWO = [(60, 60), (220, 140)]


@pytest.fixture
def project(tmp_path):
    images = {"a.png": painted(300, 200, TWO, green=250), "b.png": painted(300, 200, [(150, 100)], green=0)}
    region = label("Region*", box(180, 100, 260, 180), 7)
    return painted_project(tmp_path / "p", images, {"a.png": [region, label("Mitosis", square(60, 60), 8)]})


def annotate(project, bundle=None, **options):
    model = project.folder / "midog-qupath" / "models" / "now" / "model.safetensors"
    return annotate_project(
        project,
        lambda: NativeStore(project),
        bundle or standin_bundle(),
        model,
        AnnotateOptions(**options),
        SILENT,
    )


def detections(project, name="a.png"):
    entry = next(image for image in project.images if image.name == name)
    found = [o for o in NativeStore(project).read(entry) if o.kind is ObjectKind.DETECTION]
    return sorted(found, key=lambda thing: thing.roi.geometry.bounds)


def test_detections_come_back_with_class_outline_and_measurements(project):
    report = annotate(project)
    assert report.found == {"Mitosis: Atypical": 1, "Mitosis: Normal": 2}
    first, second = detections(project)
    assert first.class_name == second.class_name == "Mitosis: Normal"
    assert first.roi.geometry.centroid.distance(square(60, 60).centroid) < 1
    assert set(first.measurements) == {"Mitosis probability", "Atypical probability", "midog run"}
    assert [thing.class_name for thing in detections(project, "b.png")] == ["Mitosis: Atypical"]
    assert not report.failed


def test_sidecars_and_manifest_tell_the_same(project):
    report = annotate(project)
    written = read_features(report.sidecars / "a.geojson")
    assert {thing.id for thing in written} == {thing.id for thing in detections(project)}
    assert report.run.backup is not None


def test_sidecar_only_leaves_the_project_alone(project):
    report = annotate(project, sidecar_only=True)
    assert detections(project) == []
    assert len(read_features(report.sidecars / "a.geojson")) == 2
    assert report.as_json()["added"] == 0


def test_only_chosen_images_are_searched(project):
    report = annotate(project, images=("b*",))
    assert [job.entry.name for job in report.jobs] == ["b.png"]
    assert detections(project) == []
    with pytest.raises(ProjectError, match="No image of the project is called x"):
        annotate(project, images=("x",))


def test_only_regions_are_searched(project):
    report = annotate(project, regions="Region*")
    assert [job.entry.name for job in report.jobs] == ["a.png"]
    (found,) = detections(project)
    assert found.roi.geometry.centroid.x == pytest.approx(220, abs=1)
    with pytest.raises(ProjectError, match="No image has an annotation of class Tumour"):
        annotate(project, regions="Tumour")


def test_only_the_areas_of_a_file_are_searched(project, tmp_path):
    file = tmp_path / "area.geojson"
    write_features(file, [label("Anything", box(0, 0, 100, 100), 1)])
    annotate(project, images=("a.png",), within=file)
    assert len(detections(project)) == 1
    write_features(file, [])
    with pytest.raises(GeoJsonError, match="holds no area"):
        annotate(project, within=file)


def test_a_second_run_replaces_the_first_and_the_third_keeps_the_second(project):
    annotate(project)
    report = annotate(project, threshold=0.6)
    assert (report.as_json()["added"], report.as_json()["removed"]) == (3, 3)
    assert len(detections(project)) == 2
    kept = annotate(project, keep=True)
    assert (kept.as_json()["added"], kept.as_json()["left_out"]) == (0, 3)


def test_a_run_on_a_region_replaces_in_the_region_only(project):
    annotate(project)
    first = detections(project)
    report = annotate(project, regions="Region*")
    second = detections(project)
    assert report.as_json()["removed"] == 1
    assert [a.id == b.id for a, b in zip(first, second, strict=True)] == [True, False]


def test_an_unreadable_image_does_not_stop_the_others(project):
    path = project.folder / "images" / "a.png"
    path.write_bytes(path.read_bytes()[:300])
    report = annotate(open_project(project.path))
    assert list(report.failed) == ["a.png"]
    assert len(detections(project, "b.png")) == 1
    path.unlink()
    with pytest.raises(SlideError, match="The image could not be searched"):
        annotate(open_project(project.path), images=("a.png",))


def test_an_unknown_pixel_size_is_an_error_that_names_the_option(tmp_path):
    project = painted_project(tmp_path, {"a.png": painted(100, 100, [])}, mpp=None)
    with pytest.raises(SlideError, match=r"--mpp 0\.25"):
        annotate(project)
    assert annotate(project, mpp=0.25).found == {}


def test_coarse_images_are_marked_and_refused_where_nothing_can_be_seen(tmp_path):
    project = painted_project(tmp_path, {"a.png": painted(100, 100, [])}, mpp=0.5)
    assert annotate(project).as_json()["coarse"] == ["a.png"]
    coarser = painted_project(tmp_path / "c", {"a.png": painted(100, 100, [])}, mpp=0.8)
    with pytest.raises(SlideError, match="--force"):
        annotate(coarser)
    assert annotate(coarser, force=True).failed == {}


def test_cancelling_leaves_the_project_as_it_was(project, monkeypatch):
    before = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    bundle = standin_bundle()

    def cancel(images):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle.network, "forward", cancel)
    with pytest.raises(KeyboardInterrupt):
        annotate(project, bundle)
    assert {path: path.read_bytes() for path in before} == before
    assert not (project.ours / "lock").exists()


def test_a_model_without_types_writes_plain_mitoses(project):
    report = annotate(project, standin_bundle(has_atypical=False))
    assert report.found == {"Mitosis": 3}


def test_a_mosaic_that_names_no_cell_size_is_an_error(tmp_path):
    metadata = {"a.png": {"cell_px": "wide"}}
    project = painted_project(tmp_path, {"a.png": painted(128, 128, [])}, metadata=metadata)
    with pytest.raises(SlideError, match="cell_px = 'wide'"):
        annotate(project)


def test_a_model_for_another_resolution_is_refused(project):
    with pytest.raises(ModelError, match=r"made for 0\.5 µm per pixel"):
        annotate(project, standin_bundle(mpp=0.5))
