"""One phase of training: steps, schedule, moving average, log and checkpoint, and how it continues.

Batches, learning rate and noise depend on the step alone, so that an interrupted training that
continues ends with the same weights as one that was never interrupted (a time limit, which depends
on the machine, excepted).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from midog_qupath import files
from midog_qupath.errors import ModelError
from midog_qupath.learning.recipe import OptimiserRecipe
from midog_qupath.learning.runlog import RunLog
from midog_qupath.progress import Progress

#: Computes the losses of a step by name; ``total`` is what is minimised, the others are logged.
StepLosses = Callable[[int, float], Mapping[str, Tensor | float]]


@dataclass(frozen=True)
class Phase:
    """What a phase is: its name, length and limits.

    ``seconds``: the time it may use, None for no limit. The schedule then follows whichever of steps
    and time is further, so that the learning rate always comes down before the end.
    """

    name: str
    steps: int
    seconds: float | None
    optimiser: OptimiserRecipe
    seed: int
    checkpoint: Path
    checkpoint_seconds: float


@dataclass
class Trained:
    """Everything that changes in a phase; ``state`` holds what else the losses keep (a memory bank)."""

    network: nn.Module
    average: nn.Module
    extra: nn.Module | None = None
    state: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    used_seconds: float = 0.0


def learning_rate(progress: float, recipe: OptimiserRecipe) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the highest rate. ``progress`` 0..1."""
    if progress < recipe.warmup:
        return recipe.learning_rate * max(progress / recipe.warmup, 0.01)
    rest = (progress - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0))))


def run_phase(phase: Phase, trained: Trained, losses: StepLosses, log: RunLog, progress: Progress) -> None:
    """Train until steps or time are used up; continue from the phase's checkpoint where there is one."""
    parameters = [p for module in (trained.network, trained.extra) if module for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=0.0, weight_decay=phase.optimiser.weight_decay)
    if phase.checkpoint.is_file():
        _restore(phase, trained, optimiser)
        log.rewind(phase.name, trained.step)
    saved = started = time.monotonic()
    before = trained.used_seconds
    with progress.task(phase.name, phase.steps, "steps") as advance:
        advance(trained.step)
        while trained.step < phase.steps and not _late(phase, trained):
            values = _step(phase, trained, losses, optimiser, parameters)
            advance(1)
            trained.used_seconds = before + time.monotonic() - started
            log.add(phase.name, trained.step, values)
            if time.monotonic() - saved > phase.checkpoint_seconds:
                _save(phase, trained, optimiser)
                saved = time.monotonic()
        if trained.step < phase.steps:
            advance(phase.steps - trained.step)
    _save(phase, trained, optimiser)


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
    torch.manual_seed(hash((phase.seed, trained.step)) % (1 << 31))
    values = losses(trained.step, done)
    total = values["total"]
    assert isinstance(total, Tensor)
    if not torch.isfinite(total):
        raise ModelError(
            f"The loss of {phase.name} is no longer a number at step {trained.step}.",
            "Lower optimiser.learning_rate in the recipe, or set precision to fp32.",
        )
    optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, phase.optimiser.clip_norm)
    optimiser.step()
    trained.step += 1
    update_average(trained.average, trained.network, phase.optimiser.ema, trained.step)
    return {"learning_rate": rate, **{name: _number(value) for name, value in values.items()}}


def _number(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else value


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and batch statistics; young averages follow faster."""
    keep = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - keep)
        else:
            mean.copy_(value)


def _save(phase: Phase, trained: Trained, optimiser: torch.optim.Optimizer) -> None:
    state = {
        "step": trained.step,
        "used_seconds": trained.used_seconds,
        "network": trained.network.state_dict(),
        "average": trained.average.state_dict(),
        "extra": trained.extra.state_dict() if trained.extra else {},
        "state": trained.state,
        "optimiser": optimiser.state_dict(),
    }
    with files.atomic_writer(phase.checkpoint) as stream:
        torch.save(state, stream)


def _restore(phase: Phase, trained: Trained, optimiser: torch.optim.Optimizer) -> None:
    try:
        # weights_only: nothing but tensors and plain values is ever unpickled.
        state = torch.load(phase.checkpoint, weights_only=True)
        trained.network.load_state_dict(state["network"])
        trained.average.load_state_dict(state["average"])
        if trained.extra:
            trained.extra.load_state_dict(state["extra"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, KeyError, ValueError, EOFError) as error:
        raise ModelError(
            f"The checkpoint {phase.checkpoint} does not fit this training.",
            "Give another -o folder, or delete that one to start anew.",
        ) from error
    trained.state.update(state["state"])
    trained.step, trained.used_seconds = state["step"], state["used_seconds"]
