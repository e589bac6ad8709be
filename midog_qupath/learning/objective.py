"""What teacher and student minimise at a step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from midog_qupath.learning.domain import ConditionalDomainHead, reversal_strength
from midog_qupath.learning.losses import (
    candidate_loss,
    generalised_cross_entropy,
    mitosis_dice,
    pool_objects,
    supervised_contrastive,
)
from midog_qupath.learning.recipe import StudentRecipe
from midog_qupath.learning.tiles import Batch
from midog_qupath.models.bundle import BundleCard, normalise
from midog_qupath.models.student import MITOSIS, Student, StudentOutput

Values = Mapping[str, Tensor | float]
#: A part of the loss, weighted, and what of it goes to the log.
Part = tuple[Tensor | float, Values]


class BatchSource(Protocol):
    """Makes the batch of a step, whatever was asked before."""

    def batch(self, step: int) -> Batch:
        """The batch of a step."""


@dataclass(frozen=True)
class Compute:
    """Where and how precisely to compute."""

    device: torch.device
    bf16: bool

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for the network's forward pass, where it is wanted."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def for_inference(self, network: Student) -> Student:
        """The network, or its bfloat16 copy: without gradients that is faster than mixed precision."""
        return network.segment_in(torch.bfloat16) if self.bf16 else network


def choose_compute(device: str, precision: str) -> Compute:
    """``auto`` precision: bfloat16 where the hardware multiplies it faster than float32."""
    kind = torch.device(device)
    if precision != "auto":
        return Compute(kind, precision == "bf16")
    if kind.type == "cuda":
        return Compute(kind, torch.cuda.is_bf16_supported())
    return Compute(kind, kind.type == "cpu" and torch.cpu._is_avx512_bf16_supported())


@dataclass(frozen=True)
class TeacherObjective:
    """Noise-tolerant pixel loss on seed masks."""

    network: Student
    source: BatchSource
    card: BundleCard
    compute: Compute
    noise_tolerance: float
    class_weights: tuple[float, ...]

    def __call__(self, step: int, progress: float) -> Values:
        """Losses of a step."""
        batch = self.source.batch(step)
        output = forward(self.network, batch, self.card, self.compute)
        targets = torch.from_numpy(batch.targets).to(self.compute.device)
        weights = torch.tensor(self.class_weights, device=self.compute.device)
        pixel = generalised_cross_entropy(output.logits, targets, self.noise_tolerance, weights)
        dice = mitosis_dice(output.logits, targets)
        return {"total": pixel + dice, "pixel": pixel.detach(), "dice": dice.detach()}


@dataclass(frozen=True)
class StudentObjective:
    """Pixels, Dice, candidates, contrast and domains, each with its weight.

    ``bank`` keeps embeddings of earlier batches: tensors ``embedding`` (M, D) and ``label`` (M,).
    """

    network: Student
    domain_head: ConditionalDomainHead | None
    source: BatchSource
    card: BundleCard
    compute: Compute
    recipe: StudentRecipe
    class_weights: tuple[float, ...]
    bank: dict[str, Tensor]

    def __call__(self, step: int, progress: float) -> Values:
        """Losses of a step."""
        batch = self.source.batch(step)
        output = forward(self.network, batch, self.card, self.compute)
        targets = torch.from_numpy(batch.targets).to(self.compute.device)
        weights = torch.tensor(self.class_weights, device=self.compute.device)
        pixel = generalised_cross_entropy(output.logits, targets, 0.0, weights)
        dice = mitosis_dice(output.logits, targets)
        total = pixel + self.recipe.dice_weight * dice
        values: dict[str, Tensor | float] = {"pixel": pixel.detach(), "dice": dice.detach()}
        for loss, seen in (self._classify(batch, output), *self._compare(batch, output, progress)):
            total = total + loss
            values.update(seen)
        return {"total": total, **values}

    def _classify(self, batch: Batch, output: StudentOutput) -> Part:
        if self.recipe.classifier_weight == 0 or not len(batch.positions):
            return 0.0, {}
        device = self.compute.device
        shared = not self.recipe.classifier_detached
        features = output.features if shared else tuple(f.detach() for f in output.features)
        with self.compute.autocast():
            logits = self.network.classify(features, torch.from_numpy(batch.positions).to(device))
        loss = candidate_loss(
            logits,
            torch.from_numpy(batch.candidate_target).to(device),
            torch.from_numpy(batch.candidate_typed).to(device),
        )
        return self.recipe.classifier_weight * loss, {"classifier": loss.detach()}

    def _compare(self, batch: Batch, output: StudentOutput, progress: float) -> list[Part]:
        """What looks at the objects of the batch: contrast and domains."""
        count, device = len(batch.component_class), self.compute.device
        contrasts = self.recipe.contrastive_weight > 0
        if count < 2 or not (contrasts or self.domain_head):
            return []
        pooled = pool_objects(output.features[0], torch.from_numpy(batch.components).to(device), count)
        classes = torch.from_numpy(batch.component_class).to(device)
        parts = [self._contrast(pooled, classes)] if contrasts else []
        if self.domain_head:
            domains = torch.from_numpy(batch.component_domain).to(device)
            parts.append(self._confuse(self.domain_head, pooled, classes, domains, progress))
        return parts

    def _contrast(self, pooled: Tensor, classes: Tensor) -> Part:
        embedding = self.network.project(pooled)
        loss = supervised_contrastive(
            embedding,
            classes,
            self.bank["embedding"],
            self.bank["label"],
            self.recipe.contrastive_temperature,
        )
        self._remember(embedding.detach(), classes)
        return self.recipe.contrastive_weight * loss, {"contrastive": loss.detach()}

    def _remember(self, embedding: Tensor, classes: Tensor) -> None:
        size = self.recipe.contrastive_bank
        self.bank["embedding"] = torch.cat([embedding, self.bank["embedding"]])[:size]
        self.bank["label"] = torch.cat([classes, self.bank["label"]])[:size]

    def _confuse(
        self, head: ConditionalDomainHead, pooled: Tensor, classes: Tensor, domains: Tensor, progress: float
    ) -> Part:
        strength = reversal_strength(progress, self.recipe.adversarial_strength)
        verdict = head(pooled, classes, domains, strength)
        seen: dict[str, Tensor | float] = {"domain": verdict.loss.detach()}
        if verdict.accuracy is not None and verdict.chance is not None:
            seen.update({"domain accuracy": verdict.accuracy, "domain chance": verdict.chance})
        return self.recipe.adversarial_weight * verdict.loss, seen


def empty_bank(dimensions: int, device: torch.device) -> dict[str, Tensor]:
    """A memory bank that remembers nothing yet."""
    return {
        "embedding": torch.zeros(0, dimensions, device=device),
        "label": torch.zeros(0, dtype=torch.int64, device=device),
    }


def forward(network: Student, batch: Batch, card: BundleCard, compute: Compute) -> StudentOutput:
    """The network's output for a batch of uint8 tiles."""
    images = torch.from_numpy(batch.images).to(compute.device, non_blocking=True)
    with compute.autocast():
        output: StudentOutput = network(normalise(images, card.mean, card.std))
    return output


def pixel_weights(mitosis: float) -> tuple[float, ...]:
    """Weights of the pixel classes: ``mitosis`` for mitoses and the look-alikes they are told from."""
    return tuple(mitosis if c >= MITOSIS - 1 else 1.0 for c in range(4))
