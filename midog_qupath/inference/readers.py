"""Reader processes: they decode large windows of a slide while the network works on the ones before.

Windows come back in the order of the grid, whichever process was faster, in shared memory that holds a
fixed number of them. A process that dies is replaced and its windows are read again.
"""

from __future__ import annotations

import math
import multiprocessing
import pickle
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.shared_memory import SharedMemory
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from midog_qupath.errors import MidogError, SlideError
from midog_qupath.inference.grid import Tile
from midog_qupath.inference.read import Batch, Pixels, group_tiles, read_batches, read_group
from midog_qupath.slides.base import FileSlide, Slide

#: Windows that each process may have read ahead.
_SLOTS = 2
#: Less than so many pixels are read before processes have started.
_WORTH_PX = 60_000_000
#: How often a process is replaced before the slide is given up.
_RESTARTS = 2


class ReaderPool:
    """Reads for one slide after another; ``workers`` processes, 0 for a thread of this one.

    ``seconds`` counts what the processes spent on reading.
    """

    def __init__(self, workers: int = 0) -> None:
        self._workers = workers
        self._readers: list[_Reader] = []
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for reader in self._readers:
            reader.close()
        self._readers = []

    def batches(
        self, slide: Slide, tiles: Sequence[Tile], downsample: float, pixels: int, reduce: int = 1
    ) -> Iterator[Batch]:
        """Batches of about ``pixels`` window pixels.

        Raises SlideError where the slide cannot be read, or its readers die again and again.
        """
        if not self._workers or not _by_processes(slide, sum(tile.pixels for tile in tiles)):
            yield from read_batches(slide, tiles, downsample, pixels, reduce)
            return
        groups = group_tiles(tiles, pixels)
        path = str(getattr(slide, "path", "The slide"))
        task = _Slide(pickle.dumps(slide), path, downsample, reduce)
        if not self._readers:
            self._readers = [_Reader() for _ in range(self._workers)]
        finished = False
        try:
            yield from self._in_order(groups, task)
            finished = True
        finally:
            if not finished:
                # What was asked for and is not wanted any more would come first at the next slide.
                self.close()

    def _in_order(self, groups: Sequence[list[Tile]], task: _Slide) -> Iterator[Batch]:
        size = (2 if task.reduce > 1 else 1) * 3
        largest = max(len(group) * group[0].pixels for group in groups) * size // task.reduce**2
        readers = self._readers
        for reader in readers:
            reader.begin(task, largest)
        asked = 0
        for index, group in enumerate(groups):
            while asked < min(len(groups), index + len(readers) * _SLOTS):
                readers[asked % len(readers)].ask(groups[asked], asked // len(readers) % _SLOTS)
                asked += 1
            pixels, seconds = readers[index % len(readers)].answer()
            self.seconds += seconds
            yield Batch(group, pixels, task.reduce)


def _by_processes(slide: Slide, pixels: int) -> bool:
    if pixels < _WORTH_PX or not isinstance(slide, FileSlide):
        return False
    # A picture is decoded whole: once is enough.
    return slide.facts.tile_width * slide.facts.tile_height < slide.width * slide.height


@dataclass(frozen=True)
class _Slide:
    """What a process must know to read. ``pickled``: the slide, by its path, so that it is opened there."""

    pickled: bytes
    path: str
    downsample: float
    reduce: int


@dataclass(frozen=True)
class _Begin:
    task: _Slide
    memory: str
    slot_bytes: int


@dataclass(frozen=True)
class _Read:
    tiles: Sequence[Tile]
    slot: int


class _Reader:
    """One process, seen from here."""

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None
        self._begin: _Begin | None = None
        self._pending: deque[_Read] = deque()
        self._restarts = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, task: _Slide, slot_bytes: int) -> None:
        """Open a slide; windows may have up to ``slot_bytes``."""
        self._restarts = 0
        if self._memory is None or self._memory.size < slot_bytes * _SLOTS:
            self._release()
            self._memory = SharedMemory(create=True, size=slot_bytes * _SLOTS)
        self._begin = _Begin(task, self._memory.name, slot_bytes)
        self._send(self._begin)

    def ask(self, tiles: Sequence[Tile], slot: int) -> None:
        self._pending.append(_Read(tiles, slot))
        self._send(self._pending[-1])

    def answer(self) -> tuple[Pixels, float]:
        """The pixels first asked for, and the seconds they took."""
        while True:
            try:
                answer = self._connection.recv()
                break
            except (EOFError, OSError):
                self._replace()
        asked = self._pending.popleft()
        if isinstance(answer, _Failed):
            raise SlideError(answer.what, answer.remedy)
        assert self._begin is not None
        kind = np.uint16 if self._begin.task.reduce > 1 else np.uint8
        flat = _view(self._memory, asked.slot * self._begin.slot_bytes, math.prod(answer.shape), kind)
        # A copy: who holds it longer than until the next is asked for would find other pixels in it.
        return flat.reshape(answer.shape).copy(), answer.seconds

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError:
            # Noticed, and asked again, when the answer is waited for.
            return

    def _replace(self) -> None:
        self._restarts += 1
        assert self._begin is not None
        if self._restarts > _RESTARTS:
            raise SlideError(
                f"{self._begin.task.path}: the process that reads it died {self._restarts} times.",
                "See whether memory runs out (--workers 0 needs least); else the file is damaged.",
            )
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._start()
        for message in (self._begin, *self._pending):
            self._send(message)

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()
        self._release()

    def _release(self) -> None:
        if self._memory is None:
            return
        self._memory.close()
        self._memory.unlink()
        self._memory = None


def _view(memory: SharedMemory | None, start: int, count: int, kind: DTypeLike) -> NDArray[Any]:
    assert memory is not None
    assert memory.buf is not None
    return np.frombuffer(memory.buf, dtype=kind, count=count, offset=start)


@dataclass(frozen=True)
class _Done:
    shape: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class _Failed:
    what: str
    remedy: str


@dataclass
class _State:
    task: _Slide | None = None
    slide: Slide | None = None
    memory: SharedMemory | None = None
    slot_bytes: int = 0


def serve(connection: Connection) -> None:
    """Run in a reader process: answer every read in turn until the other side is gone."""
    import cv2

    # Ctrl-C reaches the whole group of processes; who started this one decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    state = _State()
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(message, _Begin):
            _open(state, message)
        else:
            try:
                connection.send(_read(state, message))
            except OSError:
                return


def _open(state: _State, begin: _Begin) -> None:
    if state.slide is not None:
        state.slide.close()
        state.slide = None
    if state.memory is None or state.memory.name != begin.memory:
        if state.memory is not None:
            state.memory.close()
        state.memory = SharedMemory(begin.memory)
    state.task, state.slot_bytes = begin.task, begin.slot_bytes


def _read(state: _State, asked: _Read) -> _Done | _Failed:
    assert state.task is not None
    began = time.perf_counter()
    task = state.task
    try:
        if state.slide is None:
            state.slide = pickle.loads(task.pickled)  # noqa: S301 - from our own process
        pixels = read_group(state.slide, asked.tiles, task.downsample, task.reduce)
    except MidogError as error:
        return _Failed(error.what, error.remedy)
    except (OSError, MemoryError) as error:
        return _Failed(f"{task.path} cannot be read ({error}).", "See whether its disk is still there.")
    start = asked.slot * state.slot_bytes
    _view(state.memory, start, pixels.size, pixels.dtype)[:] = pixels.reshape(-1)
    return _Done(pixels.shape, time.perf_counter() - began)
