"""The network: a UNet with four pixel classes, and a multi-scale classifier on its feature maps.

The teacher is the same network, trained on seed masks.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from midog_qupath.errors import ModelError
from midog_qupath.models.windows import sample_windows

#: Pixel classes, in the order of the segmentation logits.
BACKGROUND, NUCLEUS, HARD_NEGATIVE, MITOSIS = range(4)
#: Object classes, in the order of the classifier's logits.
NOT_MITOSIS, NORMAL, ATYPICAL = range(3)
#: Levels (halvings) of the encoder maps the classifier looks at, beside the decoder's last map.
_CLASSIFIER_LEVELS = (1, 2, 3, 4)
#: Input height and width must be multiples of this, the deepest stride that any network may have.
SIZE_MULTIPLE = 32
#: A coarser map could not keep two figures apart that lie 7.5 µm from each other.
_LARGEST_STRIDE = 8


class NetworkConfig(BaseModel):
    """Shape of the network; everything needed to build it before weights are loaded.

    ``reduce``: the network first averages squares of so many working pixels; 2 (0.5 µm) costs a quarter
    and finds as much. ``encoder_depth``: 4 stops at stride 16 of what is left (a mitotic figure is smaller
    than that; the deepest stage of a resnet18 holds three quarters of its weights), 5 at 32.
    ``decoder_channels``: one number a decoder block, each halving the stride. ``windows_px``: sides
    (working pixels) of the squares around a candidate that the classifier pools.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str = "tu-resnet10t"
    encoder_weights: Literal["imagenet"] | None = None
    reduce: Literal[1, 2] = 2
    encoder_depth: Literal[4, 5] = 4
    decoder_channels: tuple[int, ...] = Field(default=(96, 64, 48), min_length=2, max_length=5)
    embedding_dim: int = Field(default=64, ge=8)
    windows_px: tuple[int, ...] = (40, 64)
    classifier_channels: int = Field(default=24, ge=8)

    @property
    def stride(self) -> int:
        """Working pixels per output pixel."""
        return int(self.reduce * 2 ** (self.encoder_depth - len(self.decoder_channels)))

    @model_validator(mode="after")
    def _decoder_fits(self) -> NetworkConfig:
        if not 0 <= self.encoder_depth - len(self.decoder_channels) <= 2:
            raise ValueError("as many decoder blocks as encoder_depth, or one or two fewer")
        if self.stride > _LARGEST_STRIDE:
            raise ValueError(f"the output must have a pixel every {_LARGEST_STRIDE} working pixels or finer")
        if self.reduce * 2**self.encoder_depth > SIZE_MULTIPLE:
            raise ValueError("reduce 2 goes with encoder_depth 4")
        return self


class StudentOutput(NamedTuple):
    """``logits`` (B, 4, H/stride, W/stride); ``features``: decoder map, then encoder maps, fine to coarse."""

    logits: Tensor
    features: tuple[Tensor, ...]


def _encoder(config: NetworkConfig) -> Any:
    try:
        return get_encoder(
            config.encoder, in_channels=3, depth=config.encoder_depth, weights=config.encoder_weights
        )
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"No encoder {config.encoder} (weights: {config.encoder_weights or 'random'}) can be had here.",
            "Name one of segmentation-models-pytorch, such as resnet18, or of timm, such as tu-resnet10t.",
        ) from error


class Student(nn.Module):
    """UNet, embedding head and multi-scale candidate classifier."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        channels = self.encoder.out_channels
        self.decoder = UnetDecoder(
            encoder_channels=channels,
            decoder_channels=config.decoder_channels,
            n_blocks=len(config.decoder_channels),
        )
        width = config.decoder_channels[-1]
        self.head = nn.Conv2d(width, 4, kernel_size=1)
        self.embedding = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.embedding_dim)
        )
        maps = (width, *(channels[level] for level in _CLASSIFIER_LEVELS))
        self.classifier = MultiScaleClassifier(
            maps,
            (config.stride, *(config.reduce * 2**level for level in _CLASSIFIER_LEVELS)),
            config.windows_px,
            config.classifier_channels,
        )

    def forward(self, images: Tensor) -> StudentOutput:
        """Segment normalised images.

        Parameters
        ----------
        images
            (B, 3, H, W) float, normalised; H and W multiples of 32.
        """
        if self.config.reduce > 1:
            images = nn.functional.avg_pool2d(images, self.config.reduce)
        return self.segment(images)

    def segment(self, reduced: Tensor) -> StudentOutput:
        """:meth:`forward` for images that are already averaged over squares of ``reduce`` pixels."""
        encoded = self.encoder(reduced.to(dtype=self.head.weight.dtype))
        decoded = self.decoder(encoded)
        features = (decoded, *(encoded[level] for level in _CLASSIFIER_LEVELS))
        return StudentOutput(self.head(decoded), features)

    def segment_in(self, dtype: torch.dtype) -> Student:
        """A copy whose UNet computes in ``dtype`` (bfloat16 for speed); its classifier stays float32."""
        twin = copy.deepcopy(self)
        for part in (twin.encoder, twin.decoder, twin.head):
            part.to(dtype)
        return twin

    def classify(self, features: tuple[Tensor, ...], positions: Tensor) -> Tensor:
        """Logits (N, 3) of not a mitosis, normal, atypical at candidate positions.

        Parameters
        ----------
        features
            As returned by :meth:`forward`.
        positions
            (N, 3) float: index in the batch, y, x in working pixels of the input.
        """
        logits: Tensor = self.classifier(features, positions)
        return logits

    def project(self, pooled: Tensor) -> Tensor:
        """Unit-length contrastive embeddings (N, D) of pooled decoder features (N, C)."""
        return nn.functional.normalize(self.embedding(pooled), dim=1)


class MultiScaleClassifier(nn.Module):
    """Pools every feature map around a candidate at several window sizes and classifies what it sees.

    ``map_channels`` and ``map_strides`` describe the feature maps; each window is resampled to 10 x 10.
    """

    _GRID = 10

    def __init__(
        self,
        map_channels: tuple[int, ...],
        map_strides: tuple[int, ...],
        windows_px: tuple[int, ...],
        channels: int,
    ) -> None:
        super().__init__()
        self.strides = map_strides
        self.windows = windows_px
        self.squeeze = nn.ModuleList(nn.Conv2d(c, channels, kernel_size=1) for c in map_channels)
        joint = channels * len(map_channels)
        self.trunks = nn.ModuleList(_trunk(joint, 2 * channels) for _ in windows_px)
        self.out = nn.Sequential(nn.Dropout(0.25), nn.Linear(4 * channels * len(windows_px), 3))

    def forward(self, features: tuple[Tensor, ...], positions: Tensor) -> Tensor:
        """Logits (N, 3); see :meth:`Student.classify`."""
        # The feature maps may be bfloat16; the classifier looks at few pixels and stays float32.
        own = next(self.squeeze.parameters()).dtype
        squeezed = [conv(f.to(dtype=own)).float() for conv, f in zip(self.squeeze, features, strict=True)]
        windows = torch.cat(
            [
                sample_windows(m, stride, positions.float(), self.windows, self._GRID)
                for m, stride in zip(squeezed, self.strides, strict=True)
            ],
            dim=2,
        )
        seen = [trunk(window) for trunk, window in zip(self.trunks, windows, strict=True)]
        pooled = [look(s) for s in seen for look in (_mean, _highest)]
        logits: Tensor = self.out(torch.cat(pooled, dim=1)).float()
        return logits


def _mean(maps: Tensor) -> Tensor:
    return maps.mean(dim=(2, 3))


def _highest(maps: Tensor) -> Tensor:
    return maps.amax(dim=(2, 3))


def _trunk(channels_in: int, channels: int) -> nn.Sequential:
    # Group norm: candidates come in batches of any size, one included.
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
        nn.GroupNorm(8, channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.GroupNorm(8, channels),
        nn.ReLU(inplace=True),
    )
