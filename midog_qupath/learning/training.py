"""What the parts of one training share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import torch
from torch import nn

from midog_qupath.dataset.store import Dataset
from midog_qupath.learning.distributed import Team
from midog_qupath.learning.ground import Ground, SpotSet
from midog_qupath.learning.objective import Compute, choose_compute
from midog_qupath.learning.phase import Phase
from midog_qupath.learning.prefetch import Prefetch, choose_workers
from midog_qupath.learning.recipe import Recipe
from midog_qupath.learning.runlog import RunLog
from midog_qupath.learning.tiles import TileSource
from midog_qupath.learning.versions import software_versions
from midog_qupath.learning.workfolder import WorkFolder
from midog_qupath.models.bundle import BundleCard
from midog_qupath.models.student import Student
from midog_qupath.progress import Progress

#: Part of the time limit kept for what comes after the student, beside choosing the operating point.
_RESERVE = 0.02


@dataclass(frozen=True)
class Training:
    """One training: recipe as fitted to the data, ground without pixel classes, card without results.

    ``seconds``: time limit in all, None for none; ``seconds_after``: what choosing the operating point
    will take of them. ``started``: monotonic clock of this process. ``start``: network to
    continue from. ``team``: the processes that train together.
    """

    recipe: Recipe
    ground: Ground
    card: BundleCard
    device: str
    folder: WorkFolder
    progress: Progress
    seconds: float | None = None
    seconds_after: float = 0.0
    started: float = field(default_factory=time.monotonic)
    start: Student | None = None
    team: Team = field(default_factory=Team)

    @cached_property
    def compute(self) -> Compute:
        """The device, and the precision that the recipe asks for on it."""
        return choose_compute(self.device, self.recipe.precision)

    @cached_property
    def log(self) -> RunLog:
        """The log of the folder."""
        return RunLog(self.folder.log)

    def seconds_left(self) -> float | None:
        """Time until the limit less what comes after the student; None without a limit."""
        if self.seconds is None:
            return None
        return max(self.seconds * (1 - _RESERVE) - self.seconds_after - self.spent_seconds(), 1.0)

    def spent_seconds(self) -> float:
        """Time that this training took so far, in all the processes that worked on it one after another."""
        return self._spent_before + time.monotonic() - self.started

    @cached_property
    def _spent_before(self) -> float:
        return self.folder.spent_seconds()

    def new_network(self) -> Student:
        """A network to train, from the model to continue from or from its random start, on the device."""
        torch.manual_seed(self.recipe.seed)
        network = Student(self.recipe.network)
        if self.start is not None:
            network.load_state_dict(self.start.state_dict())
        return self.place(network)

    def place(self, network: Student) -> Student:
        """Put a network on the device, channels last in memory."""
        network.to(self.compute.device)
        return network.to(memory_format=torch.channels_last)

    def batches(self, ground: Ground, stream: int, mined: SpotSet) -> Prefetch:
        """This process's share of a phase's batches; ``stream`` tells the phases' random numbers apart."""
        source = TileSource(
            ground=ground,
            sampling=self.recipe.sampling,
            augmentation=self.recipe.augmentation,
            stride=self.recipe.network.stride,
            seed=self.recipe.seed * 1000 + stream,
            mined=mined,
            rank=self.team.rank,
            processes=self.team.size,
        )
        return Prefetch(source, choose_workers(self.recipe.workers, self.compute.device.type, self.team.here))

    def phase(self, name: str, steps: int, seconds: float | None) -> Phase:
        """A phase of this training."""
        optimiser = self.recipe.optimiser
        if self.start is not None:
            rate = optimiser.learning_rate * optimiser.from_model_factor
            optimiser = optimiser.model_copy(update={"learning_rate": rate})
        return Phase(
            name=name,
            steps=steps,
            seconds=None if seconds is None else self.team.mean(seconds),
            optimiser=optimiser,
            seed=self.recipe.seed,
            checkpoint=self.folder.checkpoint(name),
            checkpoint_seconds=self.recipe.checkpoint_seconds,
            saved=lambda: self.folder.keep_spent_seconds(self.spent_seconds()),
            team=self.team,
        )


def new_card(
    name: str,
    recipe: Recipe,
    ground: Ground,
    datasets: Sequence[Dataset],
    *,
    has_atypical: bool,
    device: str = "",
    notes: tuple[str, ...] = (),
) -> BundleCard:
    """The card of a model that is going to be trained, without an operating point."""
    return BundleCard(
        name=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        network=recipe.network,
        has_atypical=has_atypical,
        trained_cases=ground.cases,
        domains=ground.domains,
        dataset_sha256=tuple(data.sha256 for data in datasets),
        recipe=recipe.model_dump(mode="json"),
        software=software_versions(),
        device=device,
        notes=notes,
    )


def frozen(module: nn.Module) -> nn.Module:
    """A moving average learns nothing by itself."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()
