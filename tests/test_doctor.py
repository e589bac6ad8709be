"""The doctor finds what is there and what is not, says what to do, and changes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from dataset_project import LABELS, a_project
from store_objects import files

from midog_qupath import doctor
from midog_qupath.cli.main import cli
from midog_qupath.doctor import examine, healthy


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["doctor", *map(str, arguments)], standalone_mode=False)
    assert result.exception is None
    return result.return_value or 0, result.stdout


def test_a_computer_that_runs_the_tests_can_do_the_work(tmp_path: Path) -> None:
    project = a_project(tmp_path / "p", {"a.png": LABELS, "b.png": ()})
    project.images[1].path.unlink()
    before = files(tmp_path)
    code, said = run(project.path, "--json")
    found = json.loads(said)
    assert (code, found["healthy"]) == (0, True)
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name.keys() >= {"Python", "torch", "openslide-python", "device", "QuPath", "memory", "disk"}
    assert all(check["remedy"] for check in found["checks"] if check["state"] != "ok")
    assert "OpenSlide 4" in by_name["openslide-python"]["found"]
    assert by_name["project"]["state"] == "note"
    assert "2 images, 1 of them not found" in by_name["project"]["found"]
    assert by_name["write access"]["state"] == "ok"
    assert files(tmp_path) == before


def test_what_is_shown_to_people_says_the_same(tmp_path: Path) -> None:
    code, said = run(tmp_path / "none.qpproj")
    assert code == 1
    assert "PROBLEM project: There is no QuPath project at" in said
    assert "Give a project.qpproj or its folder." in said


def test_a_library_that_cannot_be_loaded_is_a_problem_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "shapely", None)
    checks = {check.name: check for check in doctor.libraries()}
    assert (checks["shapely"].state, checks["numpy"].state) == ("problem", "ok")
    assert "pip install" in (checks["shapely"].remedy or "")
    assert not healthy(list(checks.values()))


def test_a_python_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_OLDEST_PYTHON", (9, 9))
    assert doctor.python().state == "problem"
    assert "Install Python 9.9" in (doctor.python().remedy or "")


def test_a_qupath_that_does_not_start_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midog_qupath.project.stores.paquo.find_qupath", lambda: tmp_path)
    monkeypatch.setenv("PAQUO_QUPATH_DIR", str(tmp_path))
    found = doctor.qupath()
    assert found.state == "problem"
    assert "cannot be used" in found.found
    assert "--store native" in (found.remedy or "")


def test_without_qupath_the_exact_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midog_qupath.project.stores.paquo.find_qupath", lambda: None)
    found = doctor.qupath()
    assert found.state == "note"
    assert "paquo get_qupath --install-path DIR 0.6.0" in (found.remedy or "")


@pytest.mark.qupath
def test_qupath_is_started_and_says_its_version() -> None:
    assert doctor.qupath().state == "ok"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody may write")
def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    checks = {check.name: check for check in doctor.place(None)}
    assert checks["write access"].state == "problem"
    assert "write access" in (checks["write access"].remedy or "")


def test_little_memory_and_little_disk_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ENOUGH_MEMORY", 1e9)
    monkeypatch.setattr(doctor, "_ENOUGH_DISK", 1e9)
    checks = {check.name: check.state for check in examine()}
    assert (checks["memory"], checks["disk"]) == ("note", "note")
