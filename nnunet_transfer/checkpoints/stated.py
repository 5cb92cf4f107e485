"""Statements in files about their network besides its tensors; malformed values are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_transfer import channels
from nnunet_transfer.errors import DataError
from nnunet_transfer.sources.outputs import output_groups

_MOST_STAGES = 16
#: in plans of nnU-Net 2.0 to 2.3: settings with an entry per stage and axis, and what each class of network counts
_OLD_PER_AXIS = ("conv_kernel_sizes", "pool_op_kernel_sizes")
_OLD_COUNTS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
#: entries of `unet_modules` that are names
UNET_IMPORTS = ("conv_op", "norm_op", "dropout_op", "nonlin")
#: of an architecture that is used as it is stated
_NEEDED = ("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def numbers(value: Any) -> tuple[float, ...]:
    """Return a sequence of finite numbers of plausible length; empty for anything else."""
    if not isinstance(value, list | tuple):
        return ()
    fit = all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9 for v in value)
    return tuple(float(v) for v in value) if fit else ()


def words(value: Any) -> tuple[str, ...]:
    """Return a sequence of texts; empty for anything else."""
    fits = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    return tuple(value) if fits else ()


def channel_names(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels of `dataset.json` in nnU-Net's order; empty if it states none."""
    try:
        return channels.channel_names(dataset)
    except DataError:
        return ()


def outputs(dataset: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the output names of a network according to `dataset.json`; empty if its labels are malformed."""
    try:
        return tuple(tuple(group) for group in output_groups(dataset))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ()


def old_architecture(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the architecture of a configuration in plans of nnU-Net 2.0 to 2.3, as nnU-Net rebuilds it.

    `None` if they have another form. Rules: nnunetv2 2.8.1, `ConfigurationManager`.
    """
    network = str(configuration.get("UNet_class_name"))
    counts, decoder = (_whole(configuration.get(f"n_conv_per_stage_{part}")) for part in ("encoder", "decoder"))
    widths = _whole([configuration.get("UNet_base_num_features"), configuration.get("unet_max_num_features")])
    axes = len(numbers(configuration.get("patch_size")))
    per_axis = [_per_axis(configuration.get(key), len(counts), axes) for key in _OLD_PER_AXIS]
    if network not in _OLD_COUNTS or axes not in (2, 3) or not all((counts, decoder, widths, *per_axis)):
        return None
    first, largest = widths
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
        "arch_kwargs": {
            "n_stages": len(counts),
            "features_per_stage": [min(first << stage, largest) for stage in range(len(counts))],
            "kernel_sizes": per_axis[0],
            "strides": per_axis[1],
            _OLD_COUNTS[network]: list(counts),
            "n_conv_per_stage_decoder": list(decoder),
            "conv_bias": True,
            **unet_modules(axes),
        },
        "_kw_requires_import": list(UNET_IMPORTS),
    }


def unet_modules(axes: int, norm: str = "InstanceNorm", nonlin: str = "LeakyReLU") -> dict[str, Any]:
    """Return the settings of nnU-Net's plans for the modules of its U-Nets, in 2D or 3D."""
    return {
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "norm_op": f"torch.nn.modules.{norm.lower()}.{norm}{axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": f"torch.nn.{nonlin}",
        "nonlin_kwargs": {"inplace": True},
    }


def _whole(value: Any) -> tuple[int, ...]:
    """Return a sequence of at most `_MOST_STAGES` plausible whole numbers above 0; empty for anything else."""
    found = numbers(value)
    fits = len(found) <= _MOST_STAGES and all(v == int(v) and 0 < v < 1 << 20 for v in found)
    return tuple(map(int, found)) if fits else ()


def _per_axis(value: Any, stages: int, axes: int) -> list[list[int]]:
    entries = [list(_whole(entry)) for entry in value] if isinstance(value, list | tuple) else []
    return entries if len(entries) == stages and all(len(entry) == axes for entry in entries) else []


def architecture(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the architecture of a configuration in plans; `None` if it is missing or lacks a part."""
    own = mapping(configuration.get("architecture"))
    kwargs = mapping(own.get("arch_kwargs"))
    imports = words(own.get("_kw_requires_import"))
    complete = isinstance(own.get("network_class_name"), str) and imports and all(name in kwargs for name in _NEEDED)
    return own if complete and all(name in kwargs for name in imports) else None
