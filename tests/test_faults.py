"""Killed, out of disk, two at once, saved in between: nobody's object is lost, and the next run completes.

``benchmarks/faults.py`` does the same a thousand times; ``docs/safety.md`` has its figures.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_scenes import Scene, SmallDisk, fill, fresh, in_child, kill, make_scenes, race, save_in_between

from midog_qupath.project.qpproj import open_project

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
KILLS = 8


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    return {scene.name: scene for scene in make_scenes(tmp_path_factory.mktemp("scenes") / "s")}


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    return random.Random(seed)


def seconds(scene: Scene, folder: Path) -> float:
    project = open_project(fresh(scene, folder))
    return in_child(lambda: scene.work(project))[1]


@pytest.mark.parametrize("name", ["annotate", "undo", "restore"])
def test_killed_at_random_moments(scenes: dict[str, Scene], tmp_path: Path, rng, name: str) -> None:
    scene, folder = scenes[name], tmp_path / "p"
    span, killed = seconds(scene, folder), 0
    for moments in range(1, 6 * KILLS):
        if kill(scene, folder, rng.uniform(0, span)):
            killed += 1
        else:
            span *= 0.8  # the machine was busier when the time was taken: it had finished before
        if killed and moments >= KILLS:
            break
    assert killed


@pytest.mark.parametrize("name", ["annotate", "undo", "restore"])
def test_two_at_once_and_a_save_in_between(scenes: dict[str, Scene], tmp_path: Path, rng, name: str) -> None:
    scene, folder = scenes[name], tmp_path / "p"
    race(scene, folder)
    save_in_between(scene, folder, rng.uniform(0, seconds(scene, folder)))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        made = SmallDisk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be mounted here")
    with made:
        yield made


@pytest.mark.parametrize("name", ["annotate", "undo", "restore"])
def test_a_disk_that_fills_up(scenes: dict[str, Scene], disk: SmallDisk, rng, name: str) -> None:
    scene = scenes[name]
    size = sum(path.stat().st_size for path in scene.template.rglob("*") if path.is_file())
    assert sum(fill(scene, disk, rng.randrange(size)) for _ in range(2)) + fill(scene, disk, 0) > 0
