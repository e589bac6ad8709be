"""Looking at feature maps around candidates: squares of a given side, resampled bilinearly.

The same values as ``torchvision.ops.roi_align(aligned=True, sampling_ratio=1)``, whose gradient takes a CPU
more than twice as long. Only the rows of a map that are looked at are touched, and all windows at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sample_windows(
    feature_map: Tensor, stride_px: int, positions: Tensor, windows_px: tuple[int, ...], grid: int
) -> Tensor:
    """Squares of ``windows_px`` around each position, each as ``grid`` x ``grid`` bilinear samples.

    Parameters
    ----------
    feature_map
        (B, C, H, W) float32; one pixel every ``stride_px`` working pixels.
    positions
        (N, 3) float32: index in the batch, y, x in working pixels of the input.
    windows_px
        Sides of the squares, working pixels.

    Returns
    -------
    Tensor
        (len(windows_px), N, C, grid, grid). Samples more than one map pixel outside the map are 0.
    """
    height, width = feature_map.shape[2:]
    index, y, x = positions.unbind(dim=1)
    row, row_weight = _corners(y, height, stride_px, windows_px, grid)
    column, column_weight = _corners(x, width, stride_px, windows_px, grid)
    line = index.long()[:, None, None] * height + row
    # (windows, N, grid, grid, 2, 2): the four map pixels around each sample, and how much each counts.
    pixels = line[:, :, :, None, :, None] * width + column[:, :, None, :, None, :]
    weights = row_weight[:, :, :, None, :, None] * column_weight[:, :, None, :, None, :]
    table = feature_map.permute(0, 2, 3, 1).reshape(-1, feature_map.shape[1])
    seen = nn.functional.embedding_bag(
        pixels.reshape(-1, 4), table, per_sample_weights=weights.reshape(-1, 4), mode="sum"
    )
    return seen.reshape(len(windows_px), len(positions), grid, grid, -1).permute(0, 1, 4, 2, 3)


def _corners(
    centre: Tensor, size: int, stride_px: int, windows_px: tuple[int, ...], grid: int
) -> tuple[Tensor, Tensor]:
    """Map pixels before and after each sample along one axis, and their weights: both (W, N, grid, 2)."""
    side = torch.tensor(windows_px, dtype=centre.dtype, device=centre.device)[:, None, None]
    steps = (torch.arange(grid, dtype=centre.dtype, device=centre.device) + 0.5) / grid - 0.5
    # The centre of map pixel i lies at stride * (i + 0.5).
    place = (centre[None, :, None] + side * steps) / stride_px - 0.5
    inside = (place >= -1) & (place <= size)
    place = place.clamp(0, size - 1)
    before = place.floor()
    after_weight = place - before
    pixels = torch.stack([before, (before + 1).clamp(max=size - 1)], dim=-1).long()
    return pixels, torch.stack([1 - after_weight, after_weight], dim=-1) * inside[..., None]
