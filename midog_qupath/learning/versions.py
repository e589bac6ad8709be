"""Which software made a model: recorded in its card."""

from __future__ import annotations

import platform
from importlib import metadata

import midog_qupath

_PACKAGES = ("torch", "segmentation-models-pytorch", "numpy", "opencv-python", "scipy")


def software_versions() -> dict[str, str]:
    """Versions of Python, this package and those that the numbers depend on."""
    versions = {"python": platform.python_version(), "midog-qupath": midog_qupath.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
