"""Architectures in the format of nnU-Net's plans, in 2D and 3D. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_transfer.errors import PlansError

Architecture = dict[str, Any]

#: settings that every architecture has
_NEEDED = ("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides")
#: settings of an architecture that have one entry per spatial axis and stage
_PER_AXIS = ("kernel_sizes", "strides")
#: settings that name a class with a 2D and a 3D variant
_PER_DIMENSION = ("conv_op", "norm_op", "dropout_op")


def from_card(architecture: Mapping[str, Any]) -> Architecture:
    """Return a source card's architecture with the keys that nnU-Net's plans use.

    Raises
    ------
    PlansError
        If it lacks a setting that every network needs.
    """
    if missing := [name for name in _NEEDED if name not in architecture["arch_kwargs"]]:
        raise PlansError(f"the architecture lacks {', '.join(missing)}; add the source again")
    return {
        "network_class_name": architecture["network_class_name"],
        "arch_kwargs": dict(architecture["arch_kwargs"]),
        "_kw_requires_import": list(architecture["arch_kwargs_req_import"]),
    }


def with_dimensions(architecture: Architecture, dimensions: int) -> Architecture:
    """Return the architecture for 2 or 3 spatial axes.

    A new axis comes first and gets the kernel size and stride of the axis after it; from 3D to 2D, the
    first axis is dropped. nnU-Net's 2D configuration slices along this axis.
    """
    kwargs = dict(architecture["arch_kwargs"])
    for name in _PER_AXIS:
        kwargs[name] = [_axes(entry, dimensions) for entry in _per_stage(kwargs[name], kwargs["n_stages"])]
    for name in _PER_DIMENSION:
        if isinstance(kwargs.get(name), str):
            # GroupNorm and Dropout work with any number of axes
            kwargs[name] = re.sub(r"[23]d$", f"{dimensions}d", kwargs[name])
    return {**architecture, "arch_kwargs": kwargs}


def _per_stage(value: int | Sequence[Any], stages: int) -> list[Any]:
    return [value] * stages if isinstance(value, int) else list(value)


def _axes(entry: int | Sequence[int], dimensions: int) -> list[int]:
    if isinstance(entry, int):
        return [entry] * dimensions
    values = [int(v) for v in entry]
    return [*values[:1] * max(0, dimensions - len(values)), *values][-dimensions:]


def divisor(architecture: Architecture) -> tuple[int, ...]:
    """Return, per axis, the product of the strides: patch sizes must be multiples of it."""
    return tuple(math.prod(axis) for axis in zip(*architecture["arch_kwargs"]["strides"], strict=True))


def check_patch_size(patch_size: Sequence[int], architecture: Architecture) -> None:
    """Check that the network can take patches of this size.

    Raises
    ------
    PlansError
        If an axis is not a multiple of the product of the strides; the message states the nearest valid size.
    """
    steps = divisor(architecture)
    if any(size < step or size % step for size, step in zip(patch_size, steps, strict=True)):
        nearest = [max(1, round(size / step)) * step for size, step in zip(patch_size, steps, strict=True)]
        raise PlansError(
            f"patch size {' '.join(map(str, patch_size))} is not a multiple of {' '.join(map(str, steps))}, the product "
            f"of the network's strides; use {' '.join(map(str, nearest))}"
        )
    if tuple(patch_size) == steps:
        raise PlansError(
            f"patch size {' '.join(map(str, patch_size))} leaves the network's deepest stage a single voxel, which can't "
            f"be normalised; use {' '.join(map(str, (2 * steps[0], *steps[1:])))}"
        )
