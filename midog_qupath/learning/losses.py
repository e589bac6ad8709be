"""Losses of teacher and student. B batch, C classes, h height, w width, K objects, N candidates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from midog_qupath.learning.seeds import IGNORE
from midog_qupath.models.student import MITOSIS


def generalised_cross_entropy(logits: Tensor, targets: Tensor, q: float, weights: Tensor) -> Tensor:
    """Noise-tolerant pixel loss (1 - p^q) / q; cross entropy for q = 0 (Zhang and Sabuncu, NeurIPS 2018).

    Parameters
    ----------
    logits
        (B, C, h, w).
    targets
        (B, h, w) classes, 255 ignored.
    q
        0 (cross entropy) to 1 (mean absolute error, most tolerant of wrong labels).
    weights
        (C,) weight of each class.
    """
    # Nothing is gathered: masks cost less than picking pixels, and no device has to be waited for.
    surprise = functional.cross_entropy(logits.float(), targets.long(), ignore_index=IGNORE, reduction="none")
    loss = surprise if q == 0 else (1 - torch.exp(-q * surprise)) / q
    weight = weights[targets.clamp(max=len(weights) - 1).long()] * (targets != IGNORE)
    return (loss * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def mitosis_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al., 3DV 2016) of the mitosis class over the batch's known pixels.

    ``logits`` (B, C, h, w), ``targets`` (B, h, w) classes, 255 ignored. 0 where the batch has no mitosis.
    """
    probability = logits.float().softmax(dim=1)[:, MITOSIS] * (targets != IGNORE)
    truth = (targets == MITOSIS).float()
    overlap = (probability * truth).sum()
    return truth.amax() * (1 - (2 * overlap + 1) / (probability.sum() + truth.sum() + 1))


def candidate_loss(logits: Tensor, targets: Tensor, typed: Tensor) -> Tensor:
    """Classifier loss with soft targets: whether a candidate is a mitosis, and of which type a mitosis is.

    Cross entropy over three classes falls apart into these two questions; each is averaged over the
    candidates that it is asked of, so that the few mitoses of known type count for as much as all others.

    ``logits`` (N, 3), ``targets`` (N, 3) summing to 1, ``typed`` (N,) bool: False where a mitosis may be of
    either type.
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    mitosis = targets[:, 1:].sum(dim=1)
    question = -(targets[:, 0] * log_p[:, 0] + mitosis * torch.logsumexp(log_p[:, 1:], dim=1))
    kind = -(targets[:, 1:] * functional.log_softmax(logits[:, 1:].float(), dim=1)).sum(dim=1)
    asked = mitosis * typed
    # Nothing is gathered: no device has to be waited for. A batch without an answer costs nothing.
    return question.sum() / max(len(logits), 1) + (kind * typed).sum() / asked.sum().clamp(min=1)


def supervised_contrastive(
    anchors: Tensor,
    anchor_class: Tensor,
    others: Tensor,
    other_class: Tensor,
    temperature: float,
) -> Tensor:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, their L_out), every class counting the same.

    Parameters
    ----------
    anchors
        (K, D) unit-length embeddings of this batch; each is also compared with the others of the batch.
    anchor_class
        (K,) classes.
    others
        (M, D) unit-length embeddings of the memory bank (no gradient), any M.
    other_class
        (M,) their classes.
    temperature
        Divides the cosine similarities.
    """
    keys = torch.cat([anchors, others])
    key_class = torch.cat([anchor_class, other_class])
    similar = anchors @ keys.T / temperature
    oneself = torch.zeros_like(similar, dtype=torch.bool)
    oneself.fill_diagonal_(True)
    similar = similar.masked_fill(oneself, float("-inf"))
    positive = (anchor_class[:, None] == key_class[None, :]) & ~oneself
    log_p = similar - torch.logsumexp(similar, dim=1, keepdim=True)
    count = positive.sum(dim=1)
    has = count > 0
    if not has.any():
        return anchors.sum() * 0
    each = -log_p.masked_fill(~positive, 0).sum(dim=1)[has] / count[has]
    present = anchor_class[has]
    classes = torch.unique(present)
    return torch.stack([each[present == c].mean() for c in classes]).mean()


def pool_objects(features: Tensor, components: Tensor, count: int) -> Tensor:
    """Mean feature (K, C) of each object of a batch.

    ``features`` (B, C, h, w); ``components`` (B, h, w) numbers 1..K, 0 elsewhere; ``count`` = K.
    """
    # Row numbers instead of a mask: half the time, and one row of channels is one block of memory.
    place = components.flatten().nonzero().squeeze(1)
    number = components.flatten()[place] - 1
    values = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])[place].float()
    sums = torch.zeros(count, features.shape[1], device=features.device).index_add(0, number, values)
    sizes = torch.bincount(number, minlength=count).clamp(min=1)
    return sums / sizes[:, None]
