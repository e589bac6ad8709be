"""Where the network runs."""

from __future__ import annotations

import torch

from midog_qupath.errors import ModelError
from midog_qupath.models.bundle import Bundle


def network_device(bundle: Bundle) -> torch.device:
    """The device on which the bundle's weights lie."""
    return next(bundle.network.parameters()).device


def choose_device(name: str) -> str:
    """``auto`` takes the fastest there is; any other name is that device or an error."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, here in available.items() if here)
    if not available.get(name, False):
        raise ModelError(f"This machine has no usable device {name}.", "Leave out --device, or give cpu.")
    return name


def device_name(device: str) -> str:
    """The model of an accelerator by CUDA's name for it; of other devices their kind."""
    kind = torch.device(device)
    return torch.cuda.get_device_name(kind) if kind.type == "cuda" else kind.type
