"""Fixtures that several test files use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Tiny tensors gain nothing from threads and lose much where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``qupath`` where paquo finds no QuPath, before any fixture is made for it."""
    if not item.get_closest_marker("qupath"):
        return
    # Imported here: libraries read OMP_NUM_THREADS when they are loaded.
    from midog_qupath.project.stores.paquo import find_qupath

    if find_qupath() is not None:
        return
    if os.environ.get("MIDOG_REQUIRE_QUPATH"):
        pytest.fail("MIDOG_REQUIRE_QUPATH is set, and no QuPath was found")
    pytest.skip("no QuPath found")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data beside the project; tests that need it skip where it is missing."""
    if not DATA.is_dir():
        pytest.skip("real data not found beside the project")
    return DATA


@pytest.fixture
def real_project(data_dir: Path, tmp_path: Path) -> Path:
    """A private copy of the real project without its pixels' cost: images are linked where possible."""
    source = data_dir / "breast-mitosis"
    target = tmp_path / "breast-mitosis"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("images", "midog-qupath"))
    try:
        (target / "images").symlink_to(source / "images", target_is_directory=True)
    except OSError:
        shutil.copytree(source / "images", target / "images")
    return target / "project.qpproj"
