"""Damaged data files through the reader: none may hang it, exhaust memory, crash it or pass for another file.

Each input is a small data file (of our own writer, or a real one cut down to a few objects) with one to six
damages. Allowed is: read as its summary says, or refused by one error of ours that names the place. Prints
the seed, and every input on which something else happened.

    ./run bench fuzz [--count 1000000] [--seed N] [--real ../shared/data]
"""

from __future__ import annotations

import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import click
from mutants import Whole, look, mutants, whole_files

#: Inputs of one process, seconds for one input, bytes that a process may take beside what it starts with.
CHUNK, LIMIT_S, LIMIT_MEMORY = 10_000, 5, 256 * 2**20


class Hung(BaseException):
    """An input took too long."""


@click.command()
@click.option("--count", default=100_000, show_default=True, help="Inputs.")
@click.option("--seed", type=int, default=None, help="The same inputs again.")
@click.option("--real", type=click.Path(path_type=Path), help="Folder with real data files to damage too.")
def main(count: int, seed: int | None, real: Path | None) -> None:
    """Count what became of damaged files."""
    seed = random.randrange(10**6) if seed is None else seed
    wholes = whole_files(real)
    sizes = sorted(len(whole.data) for whole in wholes)
    click.echo(f"seed {seed}, {len(wholes)} whole files of {sizes[0]} to {sizes[-1]} bytes")
    told: Counter[str] = Counter()
    started, most, slowest = time.perf_counter(), 0, 0.0
    for chunk in range(0, count, CHUNK):
        size = min(CHUNK, count - chunk)
        found, memory, longest = in_child(wholes, seed + chunk, size)
        told.update(found)
        most, slowest = max(most, memory), max(slowest, longest)
        if chunk // CHUNK % 10 == 9 or chunk + size == count:
            seconds = time.perf_counter() - started
            click.echo(
                f"{chunk + size} inputs in {seconds:.0f} s: {dict(told)}; most memory {most / 2**20:.0f} MB "
                f"beside the start, slowest {slowest:.2f} s"
            )
            sys.stdout.flush()
    sys.exit(1 if any(name.startswith("BROKEN") for name in told) else 0)


def in_child(wholes: list[Whole], seed: int, count: int) -> tuple[Counter[str], int, float]:
    """Look at ``count`` inputs in a process of its own: counts, most memory (bytes), slowest (seconds)."""
    shared = mmap.mmap(-1, 4096)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        told, memory, longest = work(wholes, seed, count, shared)
        with os.fdopen(write, "w") as stream:
            stream.write(
                "\n".join([str(memory), str(longest), *(f"{n}\t{name}" for name, n in told.items())])
            )
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        lines = stream.read().splitlines()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code or not lines:
        (index,) = struct.unpack_from("I", shared)
        click.echo(f"  seed {seed} input {index}: the process ended with {code}")
        return Counter({"BROKEN: crashed": 1}), 0, 0.0
    rows = (line.split("\t", 1) for line in lines[2:])
    return Counter({name: int(number) for number, name in rows}), int(lines[0]), float(lines[1])


def work(wholes: list[Whole], seed: int, count: int, shared: mmap.mmap) -> tuple[Counter[str], int, float]:
    """The inputs of one seed."""
    told: Counter[str] = Counter()
    before = peak()
    with Path("/proc/self/statm").open() as stream:
        size = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT_MEMORY,) * 2)
    signal.signal(signal.SIGPROF, hung)
    longest = 0.0
    for index, (whole, data) in enumerate(mutants(wholes, random.Random(seed), count)):
        struct.pack_into("I", shared, 0, index)
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        try:
            told[look(whole, data)] += 1
        except (Hung, Exception):  # noqa: BLE001 (anything else is what is looked for)
            told["BROKEN"] += 1
            click.echo(f"  seed {seed} input {index} of {whole.name}: {traceback.format_exc(limit=-2)}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        longest = max(longest, time.process_time() - started)
    return told, peak() - before, longest


def hung(*_: object) -> None:
    """An input took longer than it may."""
    raise Hung


def peak() -> int:
    """Most memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
