"""Training by several processes, one a GPU, that ``torchrun`` starts; alone, nothing here does anything.

Every process has the same network and makes its own share of each batch; the gradients are averaged, so
that all of them take the same step. The first process alone writes files and talks to the user.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from midog_qupath.errors import ModelError

T = TypeVar("T")

#: How long a process waits for another: the first one judges and mines while the others wait.
_PATIENCE = timedelta(hours=2)
#: How long a process waits for all to have started.
_TO_START = timedelta(minutes=10)
#: What torchrun tells a process.
_TORCHRUN = frozenset({"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})


@dataclass(frozen=True)
class Team:
    """The processes of one training: this one's ``rank`` from 0, and their number ``size``.

    Every method that talks to the others must be called by all of them, in the same order.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    @property
    def here(self) -> int:
        """How many of them run on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size)) if self.size > 1 else 1

    def decide(self, make: Callable[[], T]) -> T:
        """What the first process makes, on all of them; it must be picklable and small."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.first else None]
        with _talking():
            distributed.broadcast_object_list(box, src=0)
        decided: T = box[0]
        return decided

    def once(self, load: Callable[[], T | None], make: Callable[[], T]) -> T:
        """What ``load`` finds in the training's folder, after the first process made and stored it.

        Raises
        ------
        ModelError
            If this process does not see what the first one stored.
        """
        found = load() if self.first else None
        if self.first and found is None:
            found = make()
        self.wait()
        found = found if self.first else load()
        if found is None:
            raise ModelError(
                "A process of this training does not see what the first one wrote.",
                "Give all processes the same -o folder on a file system that they share.",
            )
        return found

    def wait(self) -> None:
        """Until all processes are here."""
        self.mean(0.0)

    def mean(self, value: float) -> float:
        """Mean over all processes of a number, the same on all of them."""
        if self.size == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64)
        with _talking():
            distributed.all_reduce(total)
        return float(total) / self.size

    def gather(self, value: T) -> list[T]:
        """The values of all processes by rank, on the first one; empty on the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.first else None
        with _talking():
            distributed.gather_object(value, values, dst=0)
        return values or []

    def same_start(self, *modules: nn.Module) -> None:
        """Give every process the weights and statistics of the first."""
        if self.size == 1:
            return
        with _talking():
            for module in modules:
                for value in module.state_dict().values():
                    distributed.broadcast(value, src=0)

    def average_gradients(self, parameters: Sequence[nn.Parameter], statistics: Sequence[Tensor]) -> None:
        """Gradients and batch statistics become their means over all processes, in one exchange.

        A parameter that no process used keeps no gradient, as in a training by one process.
        """
        if self.size == 1:
            return
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self._average([used, *gradients, *statistics])
        for parameter, share in zip(parameters, used.tolist(), strict=True):
            if share == 0:
                parameter.grad = None

    def _average(self, tensors: list[Tensor]) -> None:
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _talking():
            distributed.all_reduce(flat)
        parts = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def device(self, kind: str) -> str:
        """Where this process computes: its own GPU of the machine, else ``kind`` as it is.

        Raises
        ------
        ModelError
            If there are more processes than devices.
        """
        if self.size == 1 or kind == "cpu":
            return kind
        place = int(os.environ.get("LOCAL_RANK", self.rank))
        there = torch.cuda.device_count() if kind == "cuda" else 1
        if place >= there:
            raise ModelError(
                f"There is no device {kind} for process {place + 1} of this machine, only {there}.",
                "Give torchrun --nproc-per-node no more than that, or --device cpu.",
            )
        return f"{kind}:{place}" if kind == "cuda" else kind


class _Store(Protocol):
    def add(self, key: str, amount: int, /) -> int: ...


class _OtherEndedError(ModelError):
    """This process is in order; it cannot go on alone."""


class Membership:
    """``with Membership() as team``: the processes that ``torchrun`` started, or this one alone.

    Where several fail, the first to fail tells why; the others end without a word.
    """

    def __init__(self) -> None:
        self._store: _Store | None = None
        self._rank = 0

    def __enter__(self) -> Team:
        """Find the other processes through the environment that ``torchrun`` sets."""
        if not os.environ.keys() >= _TORCHRUN or os.environ["WORLD_SIZE"] == "1":
            return Team()
        with _talking():
            store, rank, size = next(rendezvous("env://", timeout=_TO_START))
            by_nccl = torch.cuda.is_available() and distributed.is_nccl_available()
            # Objects and numbers travel by gloo: who waits for the first process keeps no GPU busy.
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if by_nccl else "gloo",
                store=store,
                rank=rank,
                world_size=size,
                timeout=_PATIENCE,
            )
        self._store, self._rank = store, rank
        return Team(rank, size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the others, or fail; only one process may say that it failed."""
        if self._store is None:
            return
        silent = error is not None and not self._speaks(error, self._store)
        # Left to the interpreter's end, threads of the group that still run would abort the process.
        distributed.destroy_process_group()
        self._store = None
        if silent:
            raise SystemExit(1) from None

    def _speaks(self, error: BaseException, store: _Store) -> bool:
        if isinstance(error, _OtherEndedError) and self._rank > 0:
            return False
        try:
            return bool(store.add("failed", 1) == 1)
        except RuntimeError:
            # The process that kept the store has ended, and told why.
            return False


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _OtherEndedError(
            "Another process of this training ended or cannot be reached.",
            "Start all of them with torchrun; give the same command again to continue.",
        ) from error
