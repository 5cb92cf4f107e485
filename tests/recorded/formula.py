"""Weights and images by a formula, the same on every machine, for values that were recorded from original networks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch


def numbers(start: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return numbers in [-1, 1) of a quadratic sequence modulo 2**32; `start` chooses the part of it."""
    n = np.arange(start, start + math.prod(shape), dtype=np.uint64)
    # uint64 arithmetic wraps round, which a power of two as the modulus doesn't mind
    n = (n * n * np.uint64(2654435761) + n * np.uint64(40503)) % np.uint64(1 << 32)
    return torch.from_numpy((n.astype(np.float64) / (1 << 31) - 1).astype(np.float32)).reshape(shape)


def fill(tensors: Mapping[str, torch.Tensor]) -> None:
    """Give every tensor values of its own, in the order of sorted names; sizes stay near 1 through a deep network."""
    start = 1
    for name in sorted(tensors):
        tensor = tensors[name]
        if not tensor.is_floating_point():
            continue
        values = numbers(start, tuple(tensor.shape))
        start += tensor.numel()
        if tensor.dim() > 1:
            values *= math.sqrt(3 / math.prod(tensor.shape[1:]))
        elif name.endswith(("weight", "running_var")):
            values = 1 + 0.3 * values
        else:
            values *= 0.3
        with torch.no_grad():
            tensor.copy_(values)


def image(shape: tuple[int, ...]) -> torch.Tensor:
    """Return an image `(batch, channel, *spatial)` with contrast at all scales."""
    return numbers(10**9, shape) + 2 * torch.cos(torch.arange(math.prod(shape)) * 0.011).reshape(shape)


def summary(features: torch.Tensor) -> dict[str, object]:
    """Return what is recorded of features: shape, mean, standard deviation and some values."""
    flat = features.detach().double().flatten()
    chosen = flat[:: max(1, len(flat) // 7)][:7]
    return {
        "shape": list(features.shape),
        "mean": round(float(flat.mean()), 7),
        "std": round(float(flat.std()), 7),
        "values": [round(float(v), 6) for v in chosen],
    }
