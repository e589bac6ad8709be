"""The command ``info``: what is in a project, what is missing, and the exit code that says it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from midog_qupath.cli.main import cli
from midog_qupath.demo.project import generate_project

IMAGE_KEYS = {
    "name",
    "entry_id",
    "address",
    "readable",
    "width",
    "height",
    "mpp",
    "domain",
    "case",
    "extent",
    "classes",
}


def info(project: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and output; the native store, so that it is the same with and without QuPath."""
    arguments = ["info", str(project), "--store", "native", "--json", *options]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value or 0, json.loads(result.stdout)


def refused(*arguments: str) -> str:
    """The one line that the real command prints when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "midog_qupath", *arguments], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_project(tmp_path_factory.mktemp("info") / "p", count=2, size_px=256, domains=1)


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A private copy of a generated project of two images; the images themselves are shared."""
    return shutil.copytree(made.parent, tmp_path / "p") / "project.qpproj"


def changed(project: Path, **values: Any) -> Path:
    """The project with the first image's server metadata changed."""
    raw = json.loads(project.read_text("utf-8"))
    raw["images"][0]["serverBuilder"]["metadata"].update(values)
    project.write_text(json.dumps(raw), "utf-8")
    return project


@pytest.mark.realdata
def test_the_real_project_is_described_whole(data_dir: Path) -> None:
    code, found = info(data_dir / "breast-mitosis")
    assert code == 0
    assert found["store"] == "native"
    assert len(found["images"]) == 70
    assert found["classes"] == {
        "Mitosis": 148,
        "Mitosis: Atypical": 694,
        "Mitosis: Normal": 2295,
        "Non-mitosis": 61,
        "Region*": 2,
    }
    for image in found["images"]:
        assert image.keys() >= IMAGE_KEYS
        assert image["readable"]
        assert image["mpp"] == 0.25
        assert Path(image["address"]).is_file()
    extents = [image["extent"] for image in found["images"]]
    assert [extents.count(one) for one in ("whole", "regions", "objects")] == [54, 2, 14]
    assert len({image["domain"] for image in found["images"]}) == 8
    # Its addresses are of another machine; that is told, and is no failure.
    assert any("70" in problem and "no longer hold" in problem for problem in found["problems"])


def test_a_generated_project_has_no_problem(project: Path) -> None:
    code, found = info(project)
    assert (code, len(found["images"])) == (0, 2)
    for image in found["images"]:
        assert (image["width"], image["height"], image["mpp"]) == (256, 256, 0.25)
    total = sum(sum(image["classes"].values()) for image in found["images"])
    assert total == sum(found["classes"].values()) > 0
    assert info(project.parent) == (code, found)


def test_an_image_that_is_missing_is_named_and_the_others_are_described(tmp_path: Path) -> None:
    project = generate_project(tmp_path / "p", count=2, size_px=256, domains=1)
    gone = sorted((project.parent / "images").iterdir())[0]
    gone.unlink()
    code, found = info(project)
    assert code == 1
    rows = {image["name"]: image["readable"] for image in found["images"]}
    assert rows.pop(gone.name) is False
    assert list(rows.values()) == [True]
    assert any(gone.name in problem for problem in found["problems"])
    assert sum(found["classes"].values()) > 0


def test_an_image_of_another_size_is_named(project: Path) -> None:
    code, found = info(changed(project, width=300))
    assert code == 1
    assert any(found["images"][0]["name"] in problem and "300" in problem for problem in found["problems"])


def test_an_unknown_pixel_size_names_the_option_that_gives_it(project: Path) -> None:
    code, found = info(changed(project, pixelCalibration={}))
    assert code == 1
    assert found["images"][0]["mpp"] is None
    assert any("--mpp" in problem for problem in found["problems"])
    code, found = info(project, "--mpp", "0.25")
    assert (code, found["images"][0]["mpp"]) == (0, 0.25)


def test_a_damaged_data_file_is_a_problem_of_its_image_only(project: Path) -> None:
    name = json.loads(project.read_text("utf-8"))["images"][0]
    data = project.parent / "data" / str(name["entryID"]) / "data.qpdata"
    data.write_bytes(data.read_bytes()[:-100])
    code, found = info(project)
    assert code == 1
    assert any(name["imageName"] in problem for problem in found["problems"])
    assert found["images"][1]["extent"] is not None


def test_a_project_without_images_or_annotations(project: Path) -> None:
    for folder in (project.parent / "data").iterdir():
        for name in ("data.qpdata", "summary.json"):
            (folder / name).unlink(missing_ok=True)
    code, found = info(project)
    assert (code, found["classes"]) == (0, {})
    assert any("no annotations" in problem for problem in found["problems"])
    raw = json.loads(project.read_text("utf-8"))
    project.write_text(json.dumps({**raw, "images": []}), "utf-8")
    code, found = info(project)
    assert (code, found["images"]) == (1, [])
    assert found["problems"]


def test_no_project_and_half_a_project_are_one_line(project: Path, tmp_path: Path) -> None:
    project.write_text(project.read_text("utf-8")[:-30], "utf-8")
    for path, message in ((tmp_path / "none", "no QuPath project"), (project, "not complete JSON")):
        said = refused("info", str(path), "--json")
        assert message in said
        assert str(path) in said.replace("\n", "")
        assert len(said.strip().splitlines()) == 1


def test_looking_changes_nothing(project: Path) -> None:
    def everything() -> dict[Path, tuple[int, bytes]]:
        found = (path for path in project.parent.rglob("*") if path.is_file())
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}

    before = everything()
    info(project)
    assert everything() == before


def test_people_are_told_in_a_table_and_by_the_exit_code(project: Path) -> None:
    result = CliRunner().invoke(cli, ["info", str(project), "--store", "native"], standalone_mode=False)
    assert (result.exception, result.return_value or 0) == (None, 0)
    assert "native" in result.output
    assert "256 x 256" in result.output
