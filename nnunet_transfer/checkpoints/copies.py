"""Names of one tensor: wrappers and nnU-Net's aliases repeat tensors, which must then be the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.sources.keys import canonical_key

_ALIAS = re.compile(r"\.all_modules\.\d+\.")


def by_canonical_key(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors by canonical names, each once. Raises as `check_copies` does."""
    check_copies(tensors)
    return {canonical_key(key): tensor for key, tensor in tensors.items()}


def check_copies(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise a `CheckpointError` if two names of one tensor have different values: one or the other would be loaded."""
    first: dict[str, str] = {}
    for key, tensor in tensors.items():
        twin = first.setdefault(canonical_key(key), key)
        if not _same(tensor, tensors[twin]) and not _is_of_nonlinearity(key, tensors):
            raise CheckpointError(
                f"{twin} and {key} are one tensor in the network, but their values differ; save the checkpoint again"
            )


def _is_of_nonlinearity(key: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a key is an alias of a nonlinearity with weights, such as PReLU, instead of the norm's."""
    own = _ALIAS.sub(".nonlin.", key)
    return own != key and own in tensors and _same(tensors[key], tensors[own])


def _same(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    return tensor.data_ptr() == other.data_ptr() or torch.equal(_bytes_of(tensor), _bytes_of(other))


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor's bytes: NaN equals itself, and no type is left out."""
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8)
