"""A wheel installed elsewhere has everything: commands, recipes and Groovy scripts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, far from the clone."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("building a wheel offline needs hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    subprocess.run([*build, "-w", str(folder), str(CLONE)], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def run(site: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=site.parent, env=environment, capture_output=True, text=True, check=True
    )


def test_the_wheel_is_what_runs_and_it_finds_what_it_ships(installed: Path) -> None:
    code = (
        "import midog_qupath; print(midog_qupath.__file__)\n"
        "from midog_qupath.resources import shipped\n"
        "print(sorted(p.name for k in ('recipes', 'groovy') for p in shipped(k).iterdir()))"
    )
    where, files = run(installed, code).stdout.splitlines()
    assert where.startswith(str(installed))
    assert all(name in files for name in ("standard.toml", "demo.toml", "import_detections.groovy"))


def test_the_released_model_is_in_the_wheel_with_its_papers(installed: Path) -> None:
    code = (
        "from midog_qupath.models.find import released_model\n"
        "print(*sorted(p.name for p in released_model().parent.iterdir()))"
    )
    files = run(installed, code).stdout.split()
    assert {"model.safetensors", "LICENSE.md", "MODEL_CARD.md"} <= set(files)


@pytest.mark.parametrize("name", ["info", "new", "export", "train", "annotate", "evaluate", "demo"])
def test_every_command_of_the_wheel_explains_itself(installed: Path, name: str) -> None:
    shown = run(installed, "from midog_qupath.cli.main import main; main()", name, "--help").stdout
    assert shown.startswith("Usage:")
