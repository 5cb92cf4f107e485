"""The canonical names of tensors: nnU-Net's own state-dict keys without wrappers and aliases.

nnU-Net registers most tensors more than once: the convolution and norm of a block are also in its `all_modules`, and the
decoder contains the encoder. All names of a tensor share storage, so one is enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

#: prefixes that DistributedDataParallel and torch.compile add to every key, at any depth; all in a row, so that names of many
#: take one pass
_WRAPPERS = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")
#: the convolution comes first in `all_modules`; of the rest, only the norm has tensors
_ALIAS = re.compile(r"\.all_modules\.(\d+)\.")
_ENCODER_IN_DECODER = re.compile(r"(^|\.)decoder\.encoder\.")

#: tensors that are not learned: the statistics of BatchNorm
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

T = TypeVar("T")


def is_statistic(key: str) -> bool:
    """Whether the tensor is a running statistic rather than a learned parameter."""
    return key.rsplit(".", 1)[-1] in STATISTICS


def canonical_key(key: str) -> str:
    """Return the canonical name of a tensor's key."""
    key = _ENCODER_IN_DECODER.sub(r"\1encoder.", _WRAPPERS.sub(r"\1", key))
    return _ALIAS.sub(lambda match: ".conv." if match[1] == "0" else ".norm.", key)


def canonical(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return `tensors` by their canonical names, each once; a plain name takes precedence over its aliases."""
    result: dict[str, T] = {}
    plain: set[str] = set()
    for key, tensor in tensors.items():
        name = canonical_key(key)
        is_plain = name == _WRAPPERS.sub(r"\1", key)
        if name not in result or (is_plain and name not in plain):
            result[name] = tensor
        if is_plain:
            plain.add(name)
    return result
