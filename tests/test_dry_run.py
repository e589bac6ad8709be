"""A dry run says what a run would do and writes nothing; data files are taken unchecked only when asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from inference_standin import Command, painted, painted_project, save_untrained
from shapely.geometry import box
from store_objects import files
from write_objects import detection, next_run
from write_worlds import MPP, WHOLE, World, deleted, make_world, reclassified

from midog_qupath.errors import StoreError
from midog_qupath.project.results import ImageResult
from midog_qupath.project.stores.native import NativeStore
from midog_qupath.project.write import preview_detections


@pytest.fixture(params=["native", "sidecar", pytest.param("paquo", marks=pytest.mark.qupath)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return make_world(tmp_path, request.param)


def test_what_is_foretold_is_what_happens_and_nothing_is_written(world: World) -> None:
    world.write((100, 100), (300, 300), (700, 700))
    world.person(reclassified, (300, 300))
    world.person(deleted, (700, 700))
    second = ((110, 100), (310, 300), (710, 700), (500, 500))
    results = [
        ImageResult(entry, [detection(*at) for at in second], WHOLE, MPP) for entry in world.project.images
    ]
    before = files(world.project.folder)
    foretold = preview_detections(world.project, world.store, results, next_run(world.project), keep=False)
    assert files(world.project.folder) == before
    happened = world.write(*second)
    for told, done in zip(foretold.images, happened.images, strict=True):
        assert (told.state, told.error) == ("planned", None)
        assert replace(told, state=done.state, sidecar=done.sidecar) == done
    assert (foretold.images[0].added, foretold.images[0].removed) == (2, 1)


def test_an_image_that_cannot_be_read_is_told(world: World) -> None:
    class Blind(type(world.store())):  # type: ignore[misc]
        def read(self, entry):
            raise StoreError("Cut off.", "Restore it.")

    results = [ImageResult(entry, [], WHOLE, MPP) for entry in world.project.images]
    report = preview_detections(
        world.project, lambda: Blind(world.project), results, next_run(world.project), keep=False
    )
    assert len(report.failed) == 2


def test_the_command_writes_nothing_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = painted_project(tmp_path / "p", {"a.png": painted(300, 200, [(60, 60)])})
    model = save_untrained(tmp_path / "model.safetensors")
    command = Command(monkeypatch, capsys)
    options = ("annotate", project.path, "--model", model, "--store", "native")
    before = files(project.folder)
    code, out, _ = command(*options, "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "Nothing was written.")
    told = json.loads(command(*options, "--dry-run", "--json")[1])
    assert files(project.folder) == before
    done = json.loads(command(*options, "--json")[1])
    assert (told["dry_run"], done["dry_run"]) == (True, False)
    assert told["added"] == done["added"] > 0
    assert told["per_image"] == done["per_image"]


def test_a_data_file_that_disagrees_with_its_summary_is_taken_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, command = make_world(tmp_path, "native"), Command(monkeypatch, capsys)
    path = world.image.data_dir / "summary.json"
    summary = json.loads(path.read_bytes())
    summary["hierarchy"]["annotationClassificationCounts"]["Mitosis"] = 7
    path.write_text(json.dumps(summary))
    options = ("info", world.project.path, "--store", "native", "--json")
    code, out, _ = command(*options)
    assert code == 1
    assert "annotationClassificationCounts" in out
    assert "--no-check" in out
    code, out, _ = command(*options, "--no-check")
    assert (code, json.loads(out)["images"][0]["classes"]["Mitosis"]) == (0, 1)


def test_an_image_without_a_summary_is_read_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, command = make_world(tmp_path, "native"), Command(monkeypatch, capsys)
    (world.image.data_dir / "summary.json").unlink()
    code, _, err = command("info", world.project.path, "--store", "native")
    assert code == 0
    assert err.count("image-1.png has no summary.json") == 1
    assert "image-2.png has no" not in err
    said: list[str] = []
    store = NativeStore(world.project, warn=said.append)
    store.read(world.project.images[1])
    assert said == []


def test_an_area_without_figures_is_foretold_too(world: World) -> None:
    world.write((100, 100), (700, 700))
    results = [ImageResult(world.image, [], box(0, 0, 200, 200), MPP)]
    report = preview_detections(world.project, world.store, results, next_run(world.project), keep=False)
    assert (report.images[0].added, report.images[0].removed) == (0, 1)
