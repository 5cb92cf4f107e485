"""Arithmetic in float64, which not every device has."""

from __future__ import annotations

import torch
from torch import Tensor

#: types of devices without float64: Apple's GPUs
SINGLE_PRECISION = frozenset(("mps",))


def precise_device(device: torch.device) -> torch.device:
    """Return where float64 can be computed: on this device if it has float64, otherwise on the CPU."""
    return torch.device("cpu") if device.type in SINGLE_PRECISION else device


def doubled(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on its device if this has float64, otherwise on the CPU."""
    return tensor.to(precise_device(tensor.device)).double()
