"""A recipe whose training is over in seconds, for tests of what surrounds it."""

from __future__ import annotations

TINY = """
[network]
encoder = "tu-mobilenetv3_small_050"
decoder_channels = [32, 16, 16]
classifier_channels = 8
[sampling]
tile_px = 64
batch = 6
[teacher]
steps = 4
[student]
steps = 8
mine_at = []
"""
