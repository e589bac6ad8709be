"""Domain-adversarial training, conditional on class.

Ganin et al., JMLR 17 (2016): a gradient reversal layer before a domain classifier. Conditional: each
class has its own domain classifier, and only classes that occur in two domains or more take part.
Where a domain goes with a class, one classifier for all would make the network forget the class.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from midog_qupath.models.student import HARD_NEGATIVE, MITOSIS, NUCLEUS

OBJECT_CLASSES = (NUCLEUS, HARD_NEGATIVE, MITOSIS)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """Identity forwards, gradient times ``-strength`` backwards."""
    reversed_: Tensor = _Reverse.apply(values, strength)
    return reversed_


def reversal_strength(progress: float, highest: float) -> float:
    """Schedule of Ganin et al.: 0 at the start of training, ``highest`` at its end. ``progress`` 0..1."""
    return highest * (2 / (1 + math.exp(-10 * progress)) - 1)


class ConditionalDomainHead(nn.Module):
    """One domain classifier a class on pooled object features (K, C)."""

    def __init__(self, channels: int, domains: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {
                str(c): nn.Sequential(nn.Linear(channels, 64), nn.ReLU(), nn.Linear(64, domains))
                for c in OBJECT_CLASSES
            }
        )

    def forward(self, pooled: Tensor, classes: Tensor, domains: Tensor, strength: float) -> DomainVerdict:
        """Loss of the domain classifiers behind the reversal, and how often they were right.

        ``pooled`` (K, C), ``classes`` (K,), ``domains`` (K,).
        """
        losses, right, chance, seen = [], 0.0, 0.0, 0
        for pixel_class in OBJECT_CLASSES:
            of_class = classes == pixel_class
            truth = domains[of_class]
            shares = torch.bincount(truth, minlength=1).float() / max(len(truth), 1)
            if (shares > 0).sum() < 2:
                continue
            logits = self.heads[str(pixel_class)](reverse_gradient(pooled[of_class], strength))
            losses.append(functional.cross_entropy(logits, truth, weight=_balance(truth, logits.shape[1])))
            right += float((logits.argmax(dim=1) == truth).sum())
            chance += float(shares.max()) * len(truth)
            seen += len(truth)
        loss = torch.stack(losses).mean() if losses else pooled.sum() * 0
        return DomainVerdict(loss, right / seen if seen else None, chance / seen if seen else None)


class DomainVerdict:
    """``loss``; the adversary's ``accuracy`` and ``chance`` (the commonest domain always), None if unseen."""

    def __init__(self, loss: Tensor, accuracy: float | None, chance: float | None) -> None:
        self.loss = loss
        self.accuracy = accuracy
        self.chance = chance


def _balance(truth: Tensor, domains: int) -> Tensor:
    counts = torch.bincount(truth, minlength=domains).float()
    return torch.where(counts > 0, counts.sum() / counts.clamp(min=1), torch.zeros_like(counts))
