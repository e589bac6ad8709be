"""Bad input and interruption: one line, an exit code, and the project as it was."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from midog_qupath.cli.main import main
from midog_qupath.demo.project import generate_project

COMMANDS = ("info", "export", "train", "annotate", "evaluate")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_project(tmp_path_factory.mktemp("source") / "project", count=3, size_px=256).parent


@pytest.fixture
def project(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "project")) / "project.qpproj"


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, list[str]]:
    """Exit code, and the lines of standard error that are errors."""
    monkeypatch.setattr(sys, "argv", ["midog-qupath", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    return int(exit_.value.code or 0), [line for line in lines if line.startswith(("Error", "Cancelled"))]


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and "midog-qupath" not in p.parts)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_such_project(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, lines = run(capsys, monkeypatch, command, str(tmp_path / "none.qpproj"))
    assert code == 1
    assert len(lines) == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", [b'{"version": "0.6.0", "images": [', b"\x89PNG\r\n", b"[]"])
def test_a_project_file_that_is_none(
    command: str,
    content: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "project.qpproj").write_bytes(content)
    code, lines = run(capsys, monkeypatch, command, str(tmp_path))
    assert code == 1
    assert len(lines) == 1


@pytest.mark.parametrize("command", ["annotate", "evaluate"])
def test_no_model_yet_names_the_command_that_makes_one(
    command: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midog_qupath.models.find._RELEASED", project.parent / "none")
    code, lines = run(capsys, monkeypatch, command, str(project), "--store", "native")
    assert code == 1
    assert "midog-qupath train" in lines[0]


def test_missing_image_among_others_is_named_and_the_rest_exported(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = sorted((project.parent / "images").iterdir())[0]
    gone.unlink()
    # Without the addresses of the copy's source, where the image still lies.
    text = project.read_text(encoding="utf-8")
    project.write_text(text.replace("file://", "file:///moved"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["midog-qupath", "export", str(project), "--store", "native"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    assert gone.name in capsys.readouterr().err
    assert (project.parent / "midog-qupath" / "dataset" / "dataset.json").is_file()


@pytest.mark.parametrize("command", ["train", "pseudo-masks"])
def test_without_a_pixel_size_the_commands_that_learn_name_the_one_that_takes_it(
    command: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(project.read_bytes())
    content["images"] = [image for image in content["images"] if image["imageName"].endswith(".png")]
    for image in content["images"]:
        image["serverBuilder"]["metadata"]["pixelCalibration"] = {}
    project.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["midog-qupath", command, str(project)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert "`midog-qupath export`" in told
    assert "Give it with --mpp 0.25" in told.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("info", "midog_qupath.project.info.describe"),
        ("export", "midog_qupath.project.ground_truth.ground_truth"),
        ("train", "midog_qupath.learning.recipe.load_recipe"),
        ("annotate", "midog_qupath.models.find.find_model"),
        ("evaluate", "midog_qupath.models.find.find_model"),
    ],
)
def test_cancelling_changes_nothing_of_the_project(
    command: str,
    target: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = digests(project.parent)

    def cancelled(*args: object, **kwargs: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, cancelled)
    if command == "export":
        monkeypatch.setattr("midog_qupath.dataset.export.export_project", cancelled)
    code, lines = run(capsys, monkeypatch, command, str(project))
    assert code == 130
    assert lines == ["Cancelled."]
    assert digests(project.parent) == before


def test_full_disk_is_told_and_changes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(project.parent)

    def full(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", str(project.parent))

    monkeypatch.setattr("midog_qupath.files.tempfile.mkstemp", full)
    code, lines = run(capsys, monkeypatch, "export", str(project), "--store", "native")
    assert code == 1
    assert len(lines) == 1
    assert digests(project.parent) == before
