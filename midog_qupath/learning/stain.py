"""Haematoxylin and eosin as numbers: optical densities and colour deconvolution.

Formulas: Ruifrok and Johnston, Anal Quant Cytol Histol 23 (2001) 291-299; the stain vectors are the
published ones that QuPath uses as its default for H&E.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

_HAEMATOXYLIN = (0.651, 0.701, 0.290)
_EOSIN = (0.216, 0.801, 0.558)


@cache
def stain_matrix() -> NDArray[np.float32]:
    """(3, 3) unit rows: haematoxylin, eosin, residual (their cross product)."""
    rows = [np.array(v, dtype=np.float64) for v in (_HAEMATOXYLIN, _EOSIN)]
    rows.append(np.cross(rows[0], rows[1]))
    return _constant(np.array([row / np.linalg.norm(row) for row in rows]))


@cache
def _to_stains() -> NDArray[np.float32]:
    return _constant(np.linalg.inv(stain_matrix()))


@cache
def _densities() -> NDArray[np.float32]:
    return _constant(-np.log10((np.arange(256) + 1) / 256))


def _constant(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Shared by all who ask, so nobody may change it."""
    fixed = values.astype(np.float32)
    fixed.setflags(write=False)
    return fixed


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., 3) optical densities (0 = clear glass) of uint8 RGB."""
    return _densities().take(image)


def restained(
    image: NDArray[np.uint8], amounts: NDArray[np.floating], vectors: NDArray[np.floating]
) -> NDArray[np.float32]:
    """(h, w, 3) RGB, 0 to 255, of an image with other amounts of its stains, seen through other dyes.

    ``amounts`` (3,) factors of haematoxylin, eosin and residual; ``vectors`` (3, 3) their stain vectors.
    """
    # Unmixing, scaling and mixing are one matrix.
    through = (_to_stains() * amounts @ vectors).T
    densities = cv2.transform(optical_density(image), (through * -np.log(10)).astype(np.float32))
    transmitted = cv2.exp(densities, dst=densities)
    transmitted *= 256
    transmitted -= 1
    return np.asarray(np.clip(transmitted, 0, 255, out=transmitted))


def haematoxylin(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) haematoxylin concentration of a (H, W, 3) uint8 image."""
    return np.asarray(optical_density(image) @ _to_stains()[:, 0], dtype=np.float32)
