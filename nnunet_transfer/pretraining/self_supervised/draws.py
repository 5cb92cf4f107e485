"""Random numbers for distortions and views.

Choices, such as a box or a curve, are few and drawn on the CPU. Noise for every voxel is drawn on the image's device,
or, where a generator is given, on the CPU: what validation draws is then the same on every device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def uniform(shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return numbers from [0, 1) on `device`; without a generator from that device's global one."""
    if generator is None:
        return torch.rand(*shape, device=device)
    return torch.rand(*shape, generator=generator).to(device)


def between(low: float, high: float, shape: Sequence[int], generator: torch.Generator | None = None) -> torch.Tensor:
    """Return numbers from [low, high), on the CPU."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def integer(low: int, high: int, generator: torch.Generator | None = None) -> int:
    """Return a whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def chance(probability: float, generator: torch.Generator | None = None) -> bool:
    """Return true with a probability."""
    return bool(torch.rand((), generator=generator) < probability)
