"""Haematoxylin and eosin as numbers: optical densities and colour deconvolution.

Formulas: Ruifrok and Johnston, Anal Quant Cytol Histol 23 (2001) 291-299; the stain vectors are the
published ones that QuPath uses as its default for H&E.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HAEMATOXYLIN = (0.651, 0.701, 0.290)
_EOSIN = (0.216, 0.801, 0.558)


def stain_matrix() -> NDArray[np.float32]:
    """(3, 3) unit rows: haematoxylin, eosin, residual (their cross product)."""
    rows = [np.array(v, dtype=np.float64) for v in (_HAEMATOXYLIN, _EOSIN)]
    rows.append(np.cross(rows[0], rows[1]))
    return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., 3) optical densities (0 = clear glass) of uint8 RGB."""
    table = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)
    return np.asarray(table[image], dtype=np.float32)


def concentrations(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(..., 3) haematoxylin, eosin and residual of uint8 RGB."""
    return np.asarray(optical_density(image) @ np.linalg.inv(stain_matrix()), dtype=np.float32)


def from_concentrations(stains: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 RGB (..., 3) of stain concentrations (..., 3) seen through stain vectors (3, 3)."""
    transmitted = np.power(np.float32(10), -(stains @ matrix)) * 256 - 1
    return np.asarray(np.clip(transmitted, 0, 255), dtype=np.uint8)


def haematoxylin(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) haematoxylin concentration of a (H, W, 3) uint8 image."""
    column = np.linalg.inv(stain_matrix())[:, 0]
    return np.asarray(optical_density(image) @ column.astype(np.float32), dtype=np.float32)
