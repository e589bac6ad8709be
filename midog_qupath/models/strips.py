"""Large maps worked through strip by strip: what a strip needs stays in a processor's cache.

Most of the time that a CPU spends on a large window goes into carrying maps to and from memory between one
layer and the next. Convolutions see a few rows around each, so several layers can follow each other on a few
rows of the map before the next rows are looked at, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from midog_qupath.models.student import Student

#: Rows around a strip that are computed for it alone: more than the layers of one part see.
_HALO = 8
#: The first parts of the encoders that can be worked through in strips; stem and pool halve the rows.
_STEM, _POOL, _FIRST = ("conv1", "bn1", "act1"), "maxpool", "layer1"


def work_in_strips(network: Student, strip_px: int) -> None:
    """Make the layers on the largest maps work in strips of about ``strip_px`` map pixels.

    Encoders that are built otherwise than a residual network are left as they are.
    """
    encoder = getattr(network.encoder, "model", None)
    if isinstance(encoder, nn.Module) and _begins_like_resnet(encoder):
        stem = nn.Sequential(*(getattr(encoder, name) for name in _STEM))
        # The encoder hands out what comes after the last of them.
        setattr(encoder, _STEM[0], _InStrips(stem, 2, strip_px))
        for name in _STEM[1:]:
            setattr(encoder, name, nn.Identity())
        pool = getattr(encoder, _POOL)
        if isinstance(pool, nn.MaxPool2d) and (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 1):
            pool = _Pool()
        setattr(encoder, _POOL, _InStrips(pool, 2, strip_px))
        setattr(encoder, _FIRST, _InStrips(getattr(encoder, _FIRST), 1, strip_px))
    blocks = network.decoder.blocks
    # The first works on small maps.
    for index in range(1, len(blocks)):
        blocks[index] = _BlockInStrips(blocks[index], strip_px)


def _begins_like_resnet(encoder: nn.Module) -> bool:
    names = [name for name, _ in encoder.named_children()]
    return names[: len(_STEM)] == list(_STEM) and {_POOL, _FIRST} <= set(names)


class _Pool(nn.Module):
    """Maximum over 3 x 3 at every second pixel, one axis after the other; in bfloat16 far faster."""

    def forward(self, given: Tensor) -> Tensor:
        """(B, C, H / 2, W / 2) of (B, C, H, W)."""
        for axis in (2, 3):
            even, odd = (given[(slice(None),) * axis + (slice(which, None, 2),)] for which in (0, 1))
            given = torch.maximum(even, odd)
            inner = given.narrow(axis, 1, given.shape[axis] - 1)
            torch.maximum(inner, odd.narrow(axis, 0, odd.shape[axis] - 1), out=inner)
        return given


class _InStrips(nn.Module):
    """A part whose map has 1 / ``stride`` of the rows that it is given."""

    def __init__(self, part: nn.Module, stride: int, strip_px: int) -> None:
        super().__init__()
        self.part, self._stride, self._strip_px = part, stride, strip_px

    def forward(self, given: Tensor) -> Tensor:
        """What the part makes of ``given`` (B, C, H, W)."""
        stride = self._stride
        height, width = given.shape[2] // stride, given.shape[3] // stride

        def work(first: int, last: int) -> Tensor:
            seen: Tensor = self.part(given[:, :, first * stride : last * stride])
            return seen

        return _in_strips(work, height, len(given) * width, self._strip_px)


class _BlockInStrips(nn.Module):
    """A block of the decoder."""

    def __init__(self, block: nn.Module, strip_px: int) -> None:
        super().__init__()
        self.block, self._strip_px = block, strip_px

    def forward(
        self, coarse: Tensor, height: int, width: int, skip_connection: Tensor | None = None
    ) -> Tensor:
        """What the block makes of a map and, twice as fine, one of the encoder."""

        def work(first: int, last: int) -> Tensor:
            skip = None if skip_connection is None else skip_connection[:, :, first:last]
            seen: Tensor = self.block(
                coarse[:, :, first // 2 : last // 2], last - first, width, skip_connection=skip
            )
            return seen

        return _in_strips(work, height, len(coarse) * width, self._strip_px)


def _in_strips(work: Callable[[int, int], Tensor], height: int, row_px: int, strip_px: int) -> Tensor:
    """(B, C, height, W) put together from what ``work`` makes of rows ``first`` to ``last``."""
    whole: Tensor | None = None
    for first, last in _strips(height, max(2 * _HALO, strip_px // row_px)):
        start, end = max(0, first - _HALO), min(height, last + _HALO)
        seen = work(start, end)
        if last - first == height:
            return seen
        if whole is None:
            size = (*seen.shape[:2], height, seen.shape[3])
            whole = torch.empty(size, dtype=seen.dtype, device=seen.device, memory_format=torch.channels_last)
        whole[:, :, first:last] = seen[:, :, first - start : last - start]
    assert whole is not None
    return whole


def _strips(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """First and last row of strips of about equal height, an even number of rows each but the last."""
    count = max(1, round(height / rows))
    each = -(-height // count)
    each += each % 2
    for first in range(0, height, each):
        yield first, min(height, first + each)
