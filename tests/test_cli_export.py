"""The command: what it prints, its exit codes, and one line for everything that can go wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import orjson
import pytest
from dataset_project import LABELS, a_project

from midog_qupath.cli.main import main
from midog_qupath.dataset.store import Dataset
from midog_qupath.project.model import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return a_project(tmp_path / "my project", {"a.png": LABELS, "b.png": LABELS[1:2]})


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of ``midog-qupath export``."""
    monkeypatch.setattr(sys, "argv", ["midog-qupath", "export", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_with_nothing_but_the_project_the_dataset_lies_in_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, project.path, "--store", "native") == 0
    dataset = Dataset.open(project.folder / "midog-qupath" / "dataset")
    assert len(dataset.objects) == 6
    printed = capsys.readouterr()
    assert "native" in printed.err
    assert "1 Stroma, 1 Unclassified" in printed.out
    assert "objects" in printed.out
    assert "1 Mitosis: Atypical, 1 Non-mitosis" in printed.out
    assert str(dataset.folder) in printed.out


def test_json_is_the_only_thing_on_standard_output(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [project.folder, "--json", "--whole", "b*", "-o", tmp_path / "data set", "--store", "native"]
    assert run(monkeypatch, *words) == 0
    summary = orjson.loads(capsys.readouterr().out)
    assert summary["dataset"] == str(tmp_path / "data set")
    assert summary["classes"] == {"Mitosis": 4, "Mitosis: Atypical": 1, "Non-mitosis": 1}
    assert summary["ignored"] == {"Stroma": 1, "Unclassified": 1}
    assert [(i["name"], i["extent"], i["mm2"], i["objects"].get("Mitosis")) for i in summary["images"]] == [
        ("a.png", "objects", 0.0, 2),
        ("b.png", "whole", 0.00375, 2),
    ]
    assert summary["splits"]["train"] == {"cases": 1, "mitoses": 3, "look_alikes": 1}
    assert summary["splits"]["test"] == {"cases": 1, "mitoses": 2, "look_alikes": 0}


def test_coco_files_lie_in_the_dataset(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, project.path, "--format", "coco", "--store", "native") == 0
    coco = project.ours / "dataset" / "coco"
    found = [orjson.loads((coco / f"{split}.json").read_bytes()) for split in ("train", "val", "test")]
    assert sum(len(split["annotations"]) for split in found) == 6
    tiles = {record["file_name"] for split in found for record in split["images"]}
    assert tiles == {f"images/{path.name}" for path in (coco / "images").iterdir()}
    assert run(monkeypatch, project.path, "--store", "native") == 0
    assert not coco.exists()


def test_an_image_left_out_gives_exit_code_1_and_its_name(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.folder / "images" / "b.png").unlink()
    assert run(monkeypatch, project.path, "--store", "native") == 1
    assert "Left out (1 image): b.png" in capsys.readouterr().err
    assert len(Dataset.open(project.ours / "dataset").images) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class-map", "mitosis=Cell", "--class-map", "non_mitosis=Other"], "Nothing in"),
        (["--class-map", "mitosis"], "no class mapping"),
        (["--ground-truth", "nowhere"], "no folder nowhere"),
        (["--image-table", "nowhere.csv"], "cannot be read"),
        (["--whole", "*.svs"], "fits no image"),
    ],
)
def test_wrong_options_are_one_line(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    before = sorted(path for path in project.folder.rglob("*"))
    assert run(monkeypatch, project.path, "--store", "native", *words) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ")
    assert message in error
    assert sorted(path for path in project.folder.rglob("*")) == before


def test_no_such_project_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path / "none") == 1
    assert capsys.readouterr().err.startswith("Error: There is no QuPath project")


def test_a_folder_with_other_things_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, project.path, "--store", "native", "-o", project.folder) == 1
    assert "is not a dataset" in capsys.readouterr().err
    assert project.path.is_file()


def test_a_project_that_cannot_be_written_to_is_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A file where the folder should be stands for every reason for which it cannot be made.
    project.ours.write_text("in the way", encoding="utf-8")
    assert run(monkeypatch, project.path, "--store", "native") == 1
    assert "Give another folder with -o" in capsys.readouterr().err
    assert project.ours.read_text(encoding="utf-8") == "in the way"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file size")
def test_on_a_full_disk_the_old_dataset_stays(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, project.path, "--store", "native") == 0
    old = Dataset.open(project.ours / "dataset").sha256
    script = textwrap.dedent("""
        import resource, sys
        from midog_qupath.cli.main import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        main()
    """)
    words = ["export", str(project.path), "--whole", "*", "--store", "native"]
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Error: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert Dataset.open(project.ours / "dataset").sha256 == old
    assert [path.name for path in project.ours.iterdir()] == ["dataset"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT for one process")
def test_ctrl_c_leaves_the_old_dataset_and_no_rubbish(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, project.path, "--store", "native") == 0
    old = Dataset.open(project.ours / "dataset").sha256
    # Writing blocks slowly gives the signal time to arrive while there is half a dataset.
    script = textwrap.dedent("""
        import signal, sys, time
        # A process that is started in the background may be told to pass Ctrl-C over.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from midog_qupath.dataset import read_image
        from midog_qupath.cli.main import main
        write = read_image.write_pixels
        def slow(folder, area, pixels):
            write(folder, area, pixels)
            print("half", flush=True)
            time.sleep(30)
        read_image.write_pixels = slow
        main()
    """)
    words = [sys.executable, "-c", script, "export", str(project.path), "--store", "native"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.strip().endswith("Cancelled.")
    assert Dataset.open(project.ours / "dataset").sha256 == old
    assert [path.name for path in project.ours.iterdir()] == ["dataset"]
