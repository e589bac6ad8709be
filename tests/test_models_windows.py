"""Windows around candidates hold what torchvision's region pooling would see there."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align

from midog_qupath.models.windows import sample_windows

GRID, WINDOWS = 10, (40, 64)


@pytest.mark.parametrize(("stride", "side"), [(1, 96), (2, 48), (4, 24), (32, 3), (32, 1)])
def test_windows_equal_region_pooling_inside_and_over_the_border(stride: int, side: int) -> None:
    generator = torch.Generator().manual_seed(stride)
    feature_map = torch.randn(3, 5, side, side + 2, generator=generator, requires_grad=True)
    places = torch.rand(40, 2, generator=generator) * (side * stride + 80) - 40
    index = torch.randint(0, 3, (40, 1), generator=generator)
    positions = torch.cat([index.float(), places], dim=1)

    seen = sample_windows(feature_map, stride, positions, WINDOWS, GRID)
    expected = torch.stack([pooled(feature_map, stride, positions, side_px) for side_px in WINDOWS])
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)

    weight = torch.randn(seen.shape, generator=generator)
    (slope,) = torch.autograd.grad((seen * weight).sum(), feature_map)
    (expected_slope,) = torch.autograd.grad((expected * weight).sum(), feature_map)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-3, atol=1e-3)


def pooled(feature_map: torch.Tensor, stride: int, positions: torch.Tensor, side_px: int) -> torch.Tensor:
    index, y, x = positions.unbind(dim=1)
    half = side_px / 2
    boxes = torch.stack([index, x - half, y - half, x + half, y + half], dim=1)
    return roi_align(feature_map, boxes, GRID, spatial_scale=1 / stride, sampling_ratio=1, aligned=True)
