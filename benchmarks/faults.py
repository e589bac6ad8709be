"""What is lost when writing is cut short: kills, full disks, a second writer, a save by QuPath in between.

Each fault hits the real writing of a run, its undoing or a restoring, at a random moment; the search for
figures is a stand-in. After each the project must open, every object of people (and of ours that they
touched) must be as it was, and the same work, done again, must come to the same end. Prints the seed, and
where a promise broke, what and when.

    ./run bench faults [--kills 1000] [--seed N] [--real ../shared/data/breast-mitosis]
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
from fault_scenes import (
    BrokenPromiseError,
    Scene,
    SmallDisk,
    fill,
    fresh,
    in_child,
    kill,
    make_scenes,
    race,
    save_in_between,
)

from midog_qupath.project.qpproj import open_project


@click.command()
@click.option(
    "--kills", default=1000, show_default=True, help="Processes killed; a tenth of each other fault."
)
@click.option("--seed", type=int, default=None, help="The same moments again (as far as clocks allow).")
@click.option("--real", type=click.Path(path_type=Path), help="Also on images of this QuPath project.")
def main(kills: int, seed: int | None, real: Path | None) -> None:
    """Count faults and broken promises."""
    seed = random.randrange(10**6) if seed is None else seed
    rng = random.Random(seed)
    click.echo(f"seed {seed}")
    memory = Path("/dev/shm")  # noqa: S108 (a killed process leaves the same there as on a disk)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        scenes = make_scenes(folder / "generated")
        if real is not None:
            scenes += make_scenes(folder / "real", real=real.resolve())
        broken = 0
        for scene in scenes:
            span = duration(scene, folder / "p")
            each = kills // len(scenes) + 1
            faults: list[tuple[str, int, Callable[[], bool]]] = [
                ("killed", each, lambda s=scene, d=span: kill(s, folder / "p", rng.uniform(0, 1.1 * d))),
                ("two at once", each // 10, lambda s=scene: race(s, folder / "p")),
                (
                    "saved in between",
                    each // 10,
                    lambda s=scene, d=span: save_in_between(s, folder / "p", rng.uniform(0, d)),
                ),
            ]
            for fault, count, happen in faults:
                broken += repeat(f"{scene.template.parent.name} {scene.name}: {fault}", count, happen)
        broken += full_disks(scenes, folder, kills // 10, rng)
    sys.exit(1 if broken else 0)


def duration(scene: Scene, folder: Path) -> float:
    """Seconds that the work takes when nothing happens."""
    times = []
    for _ in range(5):
        project = open_project(fresh(scene, folder))
        times.append(in_child(lambda project=project: scene.work(project))[1])
    return sorted(times)[2]


def full_disks(scenes: list[Scene], folder: Path, count: int, rng: random.Random) -> int:
    """Faults on a disk that is almost full, where one can be mounted."""
    broken = 0
    try:
        disk = SmallDisk(folder / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        click.echo(f"full disk: not tried, no disk can be mounted ({error})")
        return 0
    with disk:
        for scene in scenes:
            need = sum(path.stat().st_size for path in scene.template.rglob("*") if path.is_file())
            broken += repeat(
                f"{scene.template.parent.name} {scene.name}: full disk",
                count // len(scenes) + 1,
                lambda s=scene, n=need: fill(s, disk, rng.randrange(n)),
            )
        disk.clear()
    return broken


def repeat(what: str, count: int, happen: Callable[[], bool]) -> int:
    """One line of counts; returns how many promises broke."""
    told: Counter[str] = Counter()
    started = time.perf_counter()
    for number in range(count):
        try:
            told["cut short" if happen() else "came through"] += 1
        except BrokenPromiseError as error:
            told["BROKEN"] += 1
            click.echo(f"  {what} {number}: {error}")
    seconds = time.perf_counter() - started
    counts = ", ".join(f"{number} {name}" for name, number in sorted(told.items()))
    click.echo(f"{what}: {counts} ({seconds:.0f} s)")
    sys.stdout.flush()
    return told["BROKEN"]


if __name__ == "__main__":
    main()
