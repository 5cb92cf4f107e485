"""Cutting a case into patches, for pre-training's validation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch.nn import functional


def _padded(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """Pad `(channel, *spatial)` with zeros on both sides up to at least `patch_size`."""
    padding: list[int] = []
    for size, patch in zip(reversed(image.shape[1:]), reversed(patch_size), strict=True):
        missing = max(patch - size, 0)
        padding += [missing // 2, missing - missing // 2]
    return functional.pad(image, padding)


def _with_patch_axes(image: torch.Tensor, patch_size: Sequence[int]) -> tuple[torch.Tensor, tuple[int, ...]]:
    # a 2D configuration cuts slices out of nnU-Net's (channel, z, y, x) cases
    size = (1,) * (image.ndim - 1 - len(patch_size)) + tuple(patch_size)
    return _padded(image, size), size


def tiles(image: torch.Tensor, patch_size: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yield the fewest, evenly spread patches that cover a case.

    Parameters
    ----------
    image : one case, `(channel, z, y, x)`
    patch_size : `(z, y, x)`, or `(y, x)` for patches from every slice

    Yields
    ------
    torch.Tensor
        `(channel, *patch_size)`; cases smaller than a patch are padded with zeros on both sides.
    """
    image, size = _with_patch_axes(image, patch_size)
    starts = []
    for length, patch in zip(image.shape[1:], size, strict=True):
        count = -(-length // patch)
        starts.append([round(i * (length - patch) / max(count - 1, 1)) for i in range(count)])
    for corner in itertools.product(*starts):
        tile = image
        for axis, (start, patch) in enumerate(zip(corner, size, strict=True), start=1):
            tile = tile.narrow(axis, start, patch)
        yield tile.reshape(image.shape[0], *patch_size)


def centre_crop(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """Return the central patch of a case; shapes and padding as in `tiles`, the middle slice for 2D patches."""
    image, size = _with_patch_axes(image, patch_size)
    for axis, (length, patch) in enumerate(zip(image.shape[1:], size, strict=True), start=1):
        image = image.narrow(axis, (length - patch) // 2, patch)
    return image.reshape(image.shape[0], *patch_size)
