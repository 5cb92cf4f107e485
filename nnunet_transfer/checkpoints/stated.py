"""What files state about their network besides its tensors: text of any shape, taken only where it makes sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_transfer.sources.outputs import output_groups

#: of an architecture that is used as it is stated
_NEEDED = ("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def numbers(value: Any) -> tuple[float, ...]:
    """Return a sequence of finite numbers of the size that settings have; nothing for anything else."""
    if not isinstance(value, list | tuple):
        return ()
    fit = all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9 for v in value)
    return tuple(float(v) for v in value) if fit else ()


def words(value: Any) -> tuple[str, ...]:
    """Return a sequence of texts; nothing for anything else."""
    fits = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    return tuple(value) if fits else ()


def channel_names(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels of `dataset.json` in their order; nothing if their numbers are none."""
    stated = mapping(dataset.get("channel_names") or dataset.get("modality"))
    if not all(str(number).isdecimal() and len(str(number)) < 10 for number in stated):
        return ()
    return tuple(str(name) for _, name in sorted(stated.items(), key=lambda item: int(item[0])))


def outputs(dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the names of the outputs that `dataset.json` gives a network; nothing if its labels are not nnU-Net's."""
    try:
        return tuple(tuple(group) for group in output_groups(dataset))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ()


def architecture(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the architecture of a configuration in plans; `None` if it is missing or lacks a part."""
    own = mapping(configuration.get("architecture"))
    kwargs = mapping(own.get("arch_kwargs"))
    imports = words(own.get("_kw_requires_import"))
    complete = isinstance(own.get("network_class_name"), str) and imports and all(name in kwargs for name in _NEEDED)
    return own if complete and all(name in kwargs for name in imports) else None
