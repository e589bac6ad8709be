"""Objects of other images set into a tile, so that few fields show many mitotic figures.

After copy-paste augmentation (Ghiasi et al., CVPR 2021). Figures, look-alikes, nuclei and bare tissue are all
set in alike: what gives a seam away then tells nothing of what lies in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midog_qupath.learning.chance import Rng
from midog_qupath.learning.stain import optical_density

#: Radius of what is set in, and width of the rim over which it fades into the tile, in tile pixels.
_RADIUS_PX, _RIM_PX = (20.0, 30.0), 8.0
#: Side of a patch that holds the largest disc.
PATCH_PX = 64
#: Places that are looked at for a patch, and how often a free one is looked for.
_CHOICE, _TRIES = 6, 20
#: Optical density by which a patch is made lighter or darker at most.
_MOST_SHIFT = 0.2


@dataclass(frozen=True)
class Scene:
    """Pixels of a tile before they are recoloured.

    ``image`` (h, w, 3) uint8; ``labels`` (h, w) uint8 pixel classes; ``domains`` (h, w) int32.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    domains: NDArray[np.int32]


def find_place(
    rng: Rng, scene: Scene, patch: Scene, taken: Sequence[tuple[float, float]]
) -> tuple[int, int] | None:
    """A place (y, x) for a patch, so far from what is there that nothing is covered; None if none is free.

    Of some random ones the one where the tile is as dark as the patch: no figure floats on bare glass.
    """
    half, size = PATCH_PX // 2, len(scene.image)
    tried = rng.integers(half, size - half + 1, size=(_TRIES, 2))
    occupied = np.array(taken, dtype=np.float64).reshape(-1, 2)
    distance = np.hypot(*(tried[:, None] - occupied[None]).transpose(2, 0, 1))
    free = tried[(distance >= PATCH_PX).all(axis=1)][:_CHOICE]
    if not len(free):
        return None
    seen = [patch.image, *(scene.image[_around(place)] for place in free)]
    wanted, *there = _darkness(seen)
    y, x = free[int(np.argmin(np.abs(np.array(there) - wanted).sum(axis=1)))]
    return int(y), int(x)


def _darkness(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """(N, 3) mean optical density of each image of the same size, from a part of its pixels."""
    return np.asarray(optical_density(np.stack([image[::4, ::4] for image in images])).mean(axis=(1, 2)))


def _around(place: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a patch around a place (y, x)."""
    half = PATCH_PX // 2
    return slice(place[0] - half, place[0] + half), slice(place[1] - half, place[1] + half)


def set_in(rng: Rng, scene: Scene, patch: Scene, place: tuple[int, int]) -> None:
    """Set the middle of a patch into a scene around ``place`` (y, x), in place.

    The patch takes the mean optical density that the tile has along the rim: another scanner's colours
    would else mark it.
    """
    window = _around(place)
    weight = _fading(float(rng.uniform(*_RADIUS_PX)))
    rim = (weight > 0) & (weight < 1)
    below = scene.image[window]
    shift = (optical_density(below[rim]) - optical_density(patch.image[rim])).mean(axis=0)
    shift = np.clip(shift, -_MOST_SHIFT, _MOST_SHIFT)
    matched = (patch.image.astype(np.float32) + 1) * 10 ** -shift.astype(np.float32) - 1
    mixed = weight[..., None] * np.clip(matched, 0, 255) + (1 - weight[..., None]) * below
    inside = weight > 0.5
    scene.image[window] = mixed.astype(np.uint8)
    scene.labels[window][inside] = patch.labels[inside]
    scene.domains[window][inside] = patch.domains[inside]


def _fading(radius_px: float) -> NDArray[np.float32]:
    """(PATCH_PX, PATCH_PX) weight of a patch: 1 in its middle, 0 from the radius on."""
    across = np.arange(PATCH_PX) + 0.5 - PATCH_PX / 2
    distance = np.hypot(across[:, None], across[None, :])
    return np.asarray(np.clip((radius_px - distance) / _RIM_PX, 0, 1), dtype=np.float32)
