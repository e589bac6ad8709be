"""One phase of training: steps, schedule, moving average, log and checkpoint, and how it continues.

Batches, learning rate and noise depend on the step alone, so that an interrupted training that
continues ends with the same weights as one that was never interrupted (a time limit, which depends
on the machine, excepted).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from midog_qupath import files
from midog_qupath.errors import ModelError
from midog_qupath.learning.distributed import Team
from midog_qupath.learning.interrupts import held_back
from midog_qupath.learning.recipe import OptimiserRecipe
from midog_qupath.learning.runlog import RunLog
from midog_qupath.progress import Progress

#: Computes the losses of a step by name; ``total`` is what is minimised, the others are logged.
StepLosses = Callable[[int, float], Mapping[str, Tensor | float]]


@dataclass(frozen=True)
class Phase:
    """What a phase is: its name, length and limits.

    ``seconds``: the time it may use, None for no limit. The schedule then follows whichever of steps
    and time is further, so that the learning rate always comes down before the end. A phase that is
    continued keeps the time that it was given first. ``saved`` is called after each checkpoint. ``team``: the
    processes that train together.
    """

    name: str
    steps: int
    seconds: float | None
    optimiser: OptimiserRecipe
    seed: int
    checkpoint: Path
    checkpoint_seconds: float
    saved: Callable[[], None] = lambda: None
    team: Team = field(default_factory=Team)


@dataclass
class Trained:
    """Everything that changes in a phase; ``state``: what else the losses of this process keep (a bank)."""

    network: nn.Module
    average: nn.Module
    extra: nn.Module | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    used_seconds: float = 0.0


def learning_rate(progress: float, recipe: OptimiserRecipe) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the highest rate. ``progress`` 0..1."""
    if progress < recipe.warmup:
        return recipe.learning_rate * max(progress / recipe.warmup, 0.01)
    rest = (progress - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0))))


def run_phase(phase: Phase, trained: Trained, losses: StepLosses, log: RunLog, progress: Progress) -> None:
    """Train until steps or time are used up; continue from the phase's checkpoint where there is one.

    Cancelled (KeyboardInterrupt), the step at hand is ended and saved first.
    """
    team, modules = phase.team, [module for module in (trained.network, trained.extra) if module]
    parameters = [p for module in modules for p in module.parameters()]
    # Fused: one pass over the weights; on a CPU a sixth of the time of one operation after another.
    decay = phase.optimiser.weight_decay
    optimiser = torch.optim.AdamW(parameters, lr=0.0, weight_decay=decay, fused=True)
    if team.decide(phase.checkpoint.is_file):
        phase = replace(phase, seconds=_restore(phase, trained, optimiser))
    if team.first:
        log.rewind(phase.name, trained.step)
    team.same_start(*modules, trained.average)
    saved = before = trained.used_seconds
    started = time.monotonic()
    with progress.task(phase.name, phase.steps, "steps") as advance, _kept(phase, trained, optimiser):
        advance(trained.step)
        while trained.step < phase.steps and not _late(phase, trained):
            with held_back():
                values = _step(phase, trained, losses, optimiser, parameters)
                # The clocks' mean: all processes must take the same number of steps.
                trained.used_seconds = team.mean(before + time.monotonic() - started)
                if team.first:
                    log.add(phase.name, trained.step, values)
            advance(1)
            if trained.used_seconds - saved > phase.checkpoint_seconds:
                _save(phase, trained, optimiser)
                saved = trained.used_seconds
    if trained.step < phase.steps:
        progress.note(f"{phase.name}: time is up after {trained.step} of {phase.steps} steps.")
    _save(phase, trained, optimiser)


@contextmanager
def _kept(phase: Phase, trained: Trained, optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Save what a training that is cancelled has reached."""
    try:
        yield
    except KeyboardInterrupt:
        # Processes that train together are not cancelled at the same step: their last checkpoint holds.
        if phase.team.size == 1:
            _save(phase, trained, optimiser)
        raise


def _late(phase: Phase, trained: Trained) -> bool:
    return phase.seconds is not None and trained.used_seconds >= phase.seconds


def _progress(phase: Phase, trained: Trained) -> float:
    by_time = trained.used_seconds / phase.seconds if phase.seconds else 0.0
    return min(max(trained.step / phase.steps, by_time), 1.0)


def _step(
    phase: Phase,
    trained: Trained,
    losses: StepLosses,
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
) -> dict[str, float]:
    done = _progress(phase, trained)
    rate = learning_rate(done, phase.optimiser)
    for group in optimiser.param_groups:
        group["lr"] = rate
    # Dropout must not depend on how the training came to this step.
    torch.manual_seed(hash((phase.seed, trained.step, phase.team.rank)) % (1 << 31))
    values = losses(trained.step, done)
    total = values["total"]
    assert isinstance(total, Tensor)
    optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    phase.team.average_gradients(parameters, _statistics(trained.network))
    # After the exchange, so that all processes see it and none waits for another.
    if not torch.isfinite(torch.nn.utils.clip_grad_norm_(parameters, phase.optimiser.clip_norm)):
        raise ModelError(
            f"The loss of {phase.name} or its gradient is no longer a number at step {trained.step}.",
            "Lower optimiser.learning_rate in the recipe, or set precision to fp32.",
        )
    optimiser.step()
    trained.step += 1
    update_average(trained.average, trained.network, phase.optimiser.ema, trained.step)
    return {"learning_rate": rate, **{name: _number(value) for name, value in values.items()}}


def _statistics(network: nn.Module) -> list[Tensor]:
    """Means and variances that batch normalisation keeps, not its counters."""
    return [buffer for buffer in network.buffers() if buffer.dtype.is_floating_point]


def _number(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else value


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and batch statistics; young averages follow faster."""
    keep = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(_tensors(average), _tensors(network), strict=True))
    means, values = zip(*(pair for pair in pairs if pair[0].dtype.is_floating_point), strict=True)
    torch._foreach_lerp_(means, values, 1 - keep)
    for counter, value in (pair for pair in pairs if not pair[0].dtype.is_floating_point):
        counter.copy_(value)


def _tensors(network: nn.Module) -> list[Tensor]:
    # Half the time of a dictionary of states, which makes up a name for each.
    return [*network.parameters(), *network.buffers()]


def _save(phase: Phase, trained: Trained, optimiser: torch.optim.Optimizer) -> None:
    states = phase.team.gather({name: value.cpu() for name, value in trained.state.items()})
    if not phase.team.first:
        return
    state = {
        "step": trained.step,
        "used_seconds": trained.used_seconds,
        "seconds": phase.seconds,
        "network": trained.network.state_dict(),
        "average": trained.average.state_dict(),
        "extra": trained.extra.state_dict() if trained.extra else {},
        "states": states,
        "optimiser": optimiser.state_dict(),
    }
    with files.atomic_writer(phase.checkpoint) as stream:
        torch.save(state, stream)
    phase.saved()


def _restore(phase: Phase, trained: Trained, optimiser: torch.optim.Optimizer) -> float | None:
    """Continue from the checkpoint; the time that the phase was given first."""
    try:
        # weights_only: nothing but tensors and plain values is ever unpickled.
        state = torch.load(phase.checkpoint, weights_only=True, map_location="cpu")
        trained.network.load_state_dict(state["network"])
        trained.average.load_state_dict(state["average"])
        if trained.extra:
            trained.extra.load_state_dict(state["extra"])
        optimiser.load_state_dict(state["optimiser"])
        # Where more processes continue than had begun, some start with the memory bank of another.
        own = state["states"][phase.team.rank % len(state["states"])]
        seconds: float | None = state["seconds"]
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        raise ModelError(
            f"The checkpoint {phase.checkpoint} does not fit this training.",
            "Give another -o folder, or delete that one to start anew.",
        ) from error
    device = next(trained.network.parameters()).device
    trained.state.update({name: value.to(device) for name, value in own.items()})
    trained.step, trained.used_seconds = state["step"], state["used_seconds"]
    return seconds
