"""What guards the repository runs the checks of everybody's own machine, and all that it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CLONE = Path(__file__).parents[1]
RUN = (CLONE / "run").read_text(encoding="utf-8")


def parsed(name: str) -> Any:
    return yaml.safe_load((CLONE / name).read_text(encoding="utf-8"))


def test_spelling_is_checked_and_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codespell_lib"]
    done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "a.md"
    wrong.write_text("Teh mitosis", encoding="utf-8")  # codespell:ignore teh
    done = subprocess.run([*command, str(wrong)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "codespell" in RUN


def test_commits_pass_the_same_command() -> None:
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].split() for hook in repository["hooks"] if hook["language"] == "system"]
    assert entries == [["./run", "lint"]]
    assert re.search(r"^  lint\)$", RUN, re.MULTILINE)
    (refused,) = [hook for hook in repository["hooks"] if hook["language"] == "fail"]
    pattern = re.compile(refused["files"])
    assert all(pattern.search(f"a/b{ending}") for ending in (".svs", ".tif", ".tiff", ".qpdata", ".pth"))
    tracked = subprocess.run(["git", "ls-files"], cwd=CLONE, capture_output=True, text=True, check=False)
    assert not [name for name in tracked.stdout.splitlines() if pattern.search(name)]


def test_the_workflow_runs_on_three_systems_and_three_versions_of_qupath() -> None:
    jobs = parsed(".github/workflows/test.yml")["jobs"]
    systems = jobs["systems"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in systems["os"]} == {"ubuntu", "macos", "windows"}
    assert "3.11" in systems["python"]
    assert jobs["qupath"]["strategy"]["matrix"]["qupath"] == ["0.5.1", "0.6.0", "0.7.0"]
    steps = jobs["qupath"]["steps"]
    assert any("paquo get_qupath" in step.get("run", "") for step in steps)
    assert steps[-1]["env"]["MIDOG_REQUIRE_QUPATH"]
    marks = re.findall(r'"(\w+): ', (CLONE / "pyproject.toml").read_text(encoding="utf-8"))
    used = {word for job in jobs.values() for step in job["steps"] for word in marked(step.get("run", ""))}
    assert used <= set(marks)


def marked(command: str) -> list[str]:
    """The marks in ``pytest -m "..."``."""
    found = re.search(r'pytest -m "([^"]+)"', command)
    return [word for word in found[1].split() if word not in ("not", "and", "or")] if found else []


def test_a_run_that_requires_qupath_fails_without_it(tmp_path: Path) -> None:
    test = "import pytest\n@pytest.mark.qupath\ndef test_it(): pass\n"
    (tmp_path / "test_a.py").write_text(test, encoding="utf-8")
    (tmp_path / "conftest.py").write_bytes((CLONE / "tests" / "conftest.py").read_bytes())
    code = (
        "import os, sys, pytest\n"
        "os.environ.update(MIDOG_REQUIRE_QUPATH='1', PAQUO_QUPATH_DIR='/nowhere')\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-W', 'ignore', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no QuPath was found" in done.stdout


def test_forms_ask_for_what_helps() -> None:
    bug = parsed(".github/ISSUE_TEMPLATE/bug.yml")
    required = {item["id"] for item in bug["body"] if item.get("validations", {}).get("required")}
    assert required == {"happened", "command", "doctor"}
    for name in ("bug", "idea"):
        form = parsed(f".github/ISSUE_TEMPLATE/{name}.yml")
        assert {"name", "description", "body"} <= form.keys()
        ids = [item["id"] for item in form["body"] if "id" in item]
        assert len(set(ids)) == len(ids)
    assert "CHANGELOG.md" in (CLONE / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text(encoding="utf-8")
    assert "./run test --long" in (CLONE / "RELEASING.md").read_text(encoding="utf-8")
