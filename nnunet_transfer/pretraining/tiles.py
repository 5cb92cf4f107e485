"""Cut a case into patches, for the validation of pre-training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd


def _sizes(image: torch.Tensor, patch_size: Sequence[int]) -> tuple[int, ...]:
    # 2D configurations use slices of nnU-Net's (channel, z, y, x) cases
    return (1,) * (image.ndim - 1 - len(patch_size)) + tuple(patch_size)


def _cut(image: torch.Tensor, starts: Sequence[int], patch_size: Sequence[int]) -> torch.Tensor:
    box = [[start, start + size] for start, size in zip(starts, _sizes(image, patch_size), strict=True)]
    return crop_and_pad_nd(image, box).reshape(image.shape[0], *patch_size)


def _centred(length: int, patch: int) -> int:
    """Return the start of the central patch; negative if the patch is larger than the image."""
    return (length - patch) // 2 if length >= patch else -((patch - length) // 2)


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
    starts = []
    for length, patch in zip(image.shape[1:], _sizes(image, patch_size), strict=True):
        count = -(-length // patch)
        spread = [round(i * (length - patch) / (count - 1)) for i in range(count)] if count > 1 else []
        starts.append(spread or [_centred(length, patch)])
    for corner in itertools.product(*starts):
        yield _cut(image, corner, patch_size)


def centre_crop(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """Return the central patch of a case; shapes and padding as in `tiles`, the middle slice for 2D patches."""
    starts = [_centred(length, patch) for length, patch in zip(image.shape[1:], _sizes(image, patch_size), strict=True)]
    return _cut(image, starts, patch_size)
