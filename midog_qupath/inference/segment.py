"""The network as it is run over images: precision, memory, and what it says of a batch of windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from midog_qupath.errors import ModelError
from midog_qupath.inference.device import network_device
from midog_qupath.inference.grid import Tile, round_up
from midog_qupath.inference.read import Batch, Pixels
from midog_qupath.models.bundle import Bundle
from midog_qupath.models.fast import compile_network, run_only
from midog_qupath.models.student import MITOSIS, StudentOutput

#: ``fp32`` is the reference; the others halve what is moved and use the multipliers made for them.
Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Windows are not cut into smaller ones than this, in working pixels of their core.
_SMALLEST_CORE = 256


class Seen(NamedTuple):
    """``probability`` (B, h, w) float32 of a mitosis; ``features`` for the classifier; both on the device."""

    probability: Tensor
    features: tuple[Tensor, ...]


class Segmenter(Protocol):
    """Says of each pixel how probable a mitosis is there. ``reduce``: over which squares it wants sums."""

    reduce: int

    def __call__(self, pixels: Pixels) -> Seen:
        """Look at (B, H / reduce, W / reduce, 3) pixels of windows, as in a batch."""
        ...


def choose_precision(name: str, device: str) -> Precision:
    """``auto`` takes bf16 where the device multiplies it fast, else fp32; any other name is that one."""
    if name != "auto":
        return cast(Precision, name)
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without these instructions bf16 is emulated, and slower than fp32.
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device == "cpu" and fast() else "fp32"


class TorchSegmenter:
    """The network by torch, on the device where the bundle's weights lie.

    ``precision`` other than fp32 takes a folded copy and pixels that are averaged before they are
    normalised; so does ``compiled``, whose copy becomes machine code first, in up to a minute. ``flips``:
    probabilities are the mean over so many orientations.

    Raises ModelError where nothing on this machine can compile.
    """

    def __init__(
        self, bundle: Bundle, precision: Precision = "fp32", flips: int = 1, compiled: bool = False
    ) -> None:
        self._bundle, self._flips = bundle, flips
        self._device = network_device(bundle)
        self._ready: Callable[[Tensor], StudentOutput] | None = None
        self.reduce = 1
        if precision != "fp32" or compiled:
            dtype = _DTYPES[precision]
            # Compiled, layers are run together as strips would, and faster.
            strips = self._device.type == "cpu" and not compiled
            ready = run_only(bundle.network, dtype, strips)
            self._ready = compile_network(ready) if compiled else ready.segment
            self.reduce = bundle.card.network.reduce
            self._normalise = Normalise(bundle, dtype, self._device)

    @torch.inference_mode()
    def __call__(self, pixels: Pixels) -> Seen:
        """See :class:`Segmenter`."""
        if self._ready is None:
            images = self._bundle.normalise(torch.from_numpy(pixels).to(self._device))
        else:
            images = self._normalise(pixels)
        output = self._network(images)
        probability = mitosis_probability(output.logits)
        # The half turn differs most from the image as it is.
        for axes in ((2, 3), (2,), (3,))[: self._flips - 1]:
            turned = self._network(torch.flip(images, axes)).logits
            probability += torch.flip(mitosis_probability(turned), [axis - 1 for axis in axes])
        return Seen(probability / self._flips if self._flips > 1 else probability, output.features)

    def _network(self, images: Tensor) -> StudentOutput:
        output: StudentOutput = self._bundle.network(images) if self._ready is None else self._ready(images)
        return output


def mitosis_probability(logits: Tensor) -> Tensor:
    """(B, h, w) float32 softmax probability of a mitosis of (B, 4, h, w) logits."""
    return torch.softmax(logits.float(), dim=1)[:, MITOSIS]


class Normalise:
    """(B, H, W, 3) uint16 sums over ``reduce`` squared pixels to (B, 3, H, W) as the network wants them."""

    def __init__(self, bundle: Bundle, dtype: torch.dtype, device: torch.device) -> None:
        mean, std = (torch.tensor(values, device=device) for values in (bundle.card.mean, bundle.card.std))
        self._scale = 1 / (255 * bundle.card.network.reduce**2 * std)
        self._shift = mean / std
        self._dtype, self._device = dtype, device

    def __call__(self, sums: Pixels) -> Tensor:
        """On the device, channels last in memory."""
        # Torch knows little of unsigned 16-bit numbers; these are at most 4 * 255.
        pixels = torch.from_numpy(sums.view(np.int16) if sums.dtype == np.uint16 else sums)
        images = pixels.to(self._device).float().mul_(self._scale).sub_(self._shift)
        return images.to(self._dtype).permute(0, 3, 1, 2)


class Frugal:
    """A segmenter that, where the device has too little memory, halves what it looks at and goes on."""

    def __init__(self, inner: Segmenter, halo: int) -> None:
        self._inner, self._halo, self.reduce = inner, halo, inner.reduce
        self._too_much: float = float("inf")

    def each(self, batch: Batch) -> Iterator[tuple[Batch, Seen]]:
        """What is seen of a batch, in one piece or, in order, in several.

        Raises ModelError where even the smallest piece is too large.
        """
        held = batch.window_px
        if held < self._too_much:
            try:
                seen = self._inner(batch.pixels)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self._too_much = held
                torch.cuda.empty_cache()
            else:
                yield batch, seen
                return
        for half in halves(batch, self._halo):
            yield from self.each(half)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the device or the machine, has run out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    said = str(error).lower()
    return "memory" in said and ("alloc" in said or "out of" in said)


def halves(batch: Batch, halo: int) -> tuple[Batch, Batch]:
    """Half of the tiles each, or of a single tile each half with ``halo`` towards the other."""
    if len(batch.tiles) > 1:
        middle = len(batch.tiles) // 2
        return (
            Batch(batch.tiles[:middle], batch.pixels[:middle], batch.reduce),
            Batch(batch.tiles[middle:], batch.pixels[middle:], batch.reduce),
        )
    tile = batch.tiles[0]
    if tile.mirrored or max(tile.width, tile.height) < 2 * _SMALLEST_CORE:
        raise ModelError(
            "The device has too little memory for even a small window.",
            "Close what else uses it, or give --device cpu.",
        )
    first, second = (_half(tile, which, halo) for which in (0, 1))
    return (_part(batch, tile, first), _part(batch, tile, second))


def _half(tile: Tile, which: int, halo: int) -> Tile:
    wide = tile.width >= tile.height
    length = tile.width if wide else tile.height
    window = tile.window_width if wide else tile.window_height
    before = tile.left if wide else tile.top
    middle = round_up(length // 2)
    start, count, margin, size = (
        (0, middle, before, before + middle + halo)
        if which == 0
        else (middle, length - middle, halo, window - before - middle + halo)
    )
    if wide:
        return Tile(tile.x + start, tile.y, count, tile.height, margin, tile.top, size, tile.window_height)
    return Tile(tile.x, tile.y + start, tile.width, count, tile.left, margin, tile.window_width, size)


def _part(batch: Batch, whole: Tile, part: Tile) -> Batch:
    by = batch.reduce
    left = round((part.x - part.left) - (whole.x - whole.left)) // by
    top = round((part.y - part.top) - (whole.y - whole.top)) // by
    below, right = top + part.window_height // by, left + part.window_width // by
    return Batch([part], np.ascontiguousarray(batch.pixels[:, top:below, left:right]), by)
