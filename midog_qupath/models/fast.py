"""The same network made ready to be run only: normalisation folded in, large maps cut into strips."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from midog_qupath.errors import ModelError
from midog_qupath.models.strips import work_in_strips
from midog_qupath.models.student import SIZE_MULTIPLE, Student, StudentOutput

#: Logits of a folded network may differ from the original's by this.
_SAME = 1e-3
#: Map pixels of a strip: the fastest of 13,000 to 100,000 on a processor with 2 MiB of cache a core.
_STRIP_PX = 50_000


def run_only(network: Student, dtype: torch.dtype, strips: bool = False) -> Student:
    """A copy of a network in evaluation mode whose UNet computes in ``dtype``; the classifier stays float32.

    ``strips``: large maps are worked through strip by strip, which suits the cache of a CPU.

    Which normalisation follows which convolution is taken from the order in which an encoder lists its
    parts, and that its layers see only a few rows from its kind. Neither is a rule, so the result is compared
    with the original, and one that differs is not used.
    """
    folded = copy.deepcopy(network)
    fold_normalisation(folded.encoder)
    fold_normalisation(folded.decoder)
    ready = folded if _same(network, folded) else copy.deepcopy(network)
    if strips and _stays_the_same_in_strips(ready):
        work_in_strips(ready, _STRIP_PX)
    return ready.segment_in(dtype).to(memory_format=torch.channels_last)


def compile_network(ready: Student) -> Callable[[Tensor], StudentOutput]:
    """What :meth:`Student.segment` of a network that :func:`run_only` made does, as machine code.

    One code serves windows of all sizes, and all networks of one shape.

    Raises
    ------
    ModelError
        If nothing on this machine can compile.
    """
    compiled: Callable[[Tensor], StudentOutput] = torch.compile(ready.segment, dynamic=True)
    weight = ready.head.weight
    side = 3 * SIZE_MULTIPLE
    sample = torch.zeros((1, 3, side, side + SIZE_MULTIPLE), dtype=weight.dtype, device=weight.device)
    try:
        with torch.inference_mode():
            compiled(sample.contiguous(memory_format=torch.channels_last))
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"The network cannot be compiled here: {reason}",
            "Leave out --compile, or install a C++ compiler (on a graphics card also triton).",
        ) from error
    return compiled


def _stays_the_same_in_strips(network: Student) -> bool:
    trial = copy.deepcopy(network)
    # As narrow as strips can be: the sample is a small one.
    work_in_strips(trial, strip_px=1)
    return _same(network, trial)


def fold_normalisation(module: nn.Module) -> None:
    """Fold each batch normalisation of a module into the convolution listed just before it."""
    before: tuple[nn.Module, str] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            holder, key = before
            convolution = getattr(holder, key)
            setattr(holder, key, fuse_conv_bn_eval(convolution, child))
            setattr(module, name, _what_follows(child))
            before = None
            continue
        fold_normalisation(child)
        before = _last_convolution(module, name)


def _last_convolution(holder: nn.Module, name: str) -> tuple[nn.Module, str] | None:
    child = getattr(holder, name)
    if isinstance(child, nn.Conv2d):
        return holder, name
    if isinstance(child, nn.Sequential) and len(child):
        return _last_convolution(child, str(len(child) - 1))
    return None


def _what_follows(normalisation: nn.Module) -> nn.Module:
    # timm's normalisations can hold their activation.
    parts = [getattr(normalisation, name, None) for name in ("drop", "act")]
    found = [part for part in parts if isinstance(part, nn.Module)]
    return nn.Sequential(*found) if found else nn.Identity()


@torch.inference_mode()
def _same(network: Student, folded: Student) -> bool:
    weight = network.head.weight
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn((1, 3, 4 * SIZE_MULTIPLE, 4 * SIZE_MULTIPLE), generator=generator).to(weight)
    one, other = (net.segment(sample).logits for net in (network, folded))
    return bool((one - other).abs().max() <= _SAME * (1 + one.abs().max()))
