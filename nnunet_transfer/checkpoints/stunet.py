"""STU-Net's `.model` and `.pth` files, of any of its sizes, for this package's `STUNet`."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from nnunet_transfer.checkpoints import stated
from nnunet_transfer.checkpoints.converted import NEEDS_PACKAGE, Converted, Format
from nnunet_transfer.checkpoints.copies import by_canonical_key
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.nnunet_v2 import input_channels_of, parts_of, stated_configuration
from nnunet_transfer.checkpoints.several import note_on_others, preferred, prefixes_of
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.errors import CheckpointError

STUNET_PAPER = "Huang et al., STU-Net, arXiv 2304.06716 (2023)"
_PREFIX = re.compile(r"(.*?)conv_blocks_context\.")
_NAMES = {
    "conv_blocks_context.": "encoder.stages.",
    "conv_blocks_localization.": "decoder.stages.",
    "upsample_layers.": "decoder.transpconvs.",
    "seg_outputs.": "decoder.seg_layers.",
}


def _recognise(found: Found) -> bool:
    # nnU-Net v1 has the same names, but no shortcuts
    return any("conv_blocks_context." in key and ".conv3." in key for key in found.tensors)


def _convert(found: Found) -> Converted:
    tensors = _renamed(found.tensors)
    architecture = architecture_from_shapes(tensors)
    kwargs = architecture["arch_kwargs"]
    strides = _stated_strides(found, kwargs["n_stages"], len(kwargs["strides"][0]))
    note = "strides are those of the run's plans"
    if strides:
        kwargs["strides"] = strides
    else:
        note = "no tensor shows the strides; 2 is assumed for all axes, as STU-Net was published for patches of 128³"
    return Converted(
        tensors,
        architecture,
        input_channels_of(tensors),
        parts=parts_of(tensors),
        citation=STUNET_PAPER,
        notes=(NEEDS_PACKAGE, note, *note_on_others(prefixes_of(found.tensors, _PREFIX))),
    )


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    own = by_canonical_key(tensors)
    prefix = preferred(prefixes_of(tensors, _PREFIX))
    renamed = {}
    for key, tensor in own.items():
        name = key.removeprefix(prefix)
        for old, new in _NAMES.items():
            if key.startswith(prefix) and name.startswith(old):
                renamed[new + name.removeprefix(old)] = tensor
    return renamed


def _stated_strides(found: Found, stages: int, dimensions: int) -> list[list[int]]:
    """Return the strides that the authors' trainer takes from a run's plans; empty if there are none.

    The trainer truncates the list to the number of stages, or pads it with 1.
    """
    _, configuration = stated_configuration(found)
    kwargs = stated.mapping(stated.mapping(configuration.get("architecture")).get("arch_kwargs"))
    listed = configuration.get("pool_op_kernel_sizes") or kwargs.get("strides")
    if not isinstance(listed, list | tuple):
        return []
    strides = [[int(v) for v in stated.numbers(entry)] for entry in listed]
    if any(len(entry) != dimensions or min(entry) < 1 for entry in strides):
        raise CheckpointError(f"the run's plans have strides {str(listed)[:100]} for a network of {dimensions} axes")
    return [[1] * dimensions, *strides[1:stages], *[[1] * dimensions] * (stages - len(strides))]


STU_NET = Format("STU-Net", _recognise, _convert)
