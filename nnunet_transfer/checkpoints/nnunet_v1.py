"""nnU-Net v1's `.model` files, `Generic_UNet`; also Models Genesis' nnU-Net."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import torch

from nnunet_transfer.checkpoints.converted import Converted, Format
from nnunet_transfer.checkpoints.copies import by_canonical_key
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.nnunet_v2 import NNUNET_PAPER, input_channels_of
from nnunet_transfer.checkpoints.several import note_on_others, preferred, prefixes_of
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes

_PREFIX = re.compile(r"(.*?)conv_blocks_context\.")
_KINDS = {"conv": "conv", "instnorm": "norm"}
_CONTEXT = re.compile(r"conv_blocks_context\.(\d+)\.(?:(\d+)\.)?blocks\.(\d+)\.(conv|instnorm)\.(\w+)")
_LOCALIZATION = re.compile(r"conv_blocks_localization\.(\d+)\.(\d+)\.blocks\.(\d+)\.(conv|instnorm)\.(\w+)")


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    own = by_canonical_key(tensors)
    network = preferred(prefixes_of(tensors, _PREFIX))
    own = {k.removeprefix(network): t for k, t in own.items() if k.startswith(network)}
    renamed = {
        **_stacked(own, _CONTEXT, "encoder.stages.{}.0.convs"),
        **_stacked(own, _LOCALIZATION, "decoder.stages.{}.convs"),
    }
    for old, new in (("tu", "transpconvs"), ("seg_outputs", "seg_layers")):
        prefix = f"{old}."
        renamed |= {f"decoder.{new}.{k[len(prefix) :]}": t for k, t in own.items() if k.startswith(prefix)}
    return renamed


def _stacked(own: Mapping[str, torch.Tensor], pattern: re.Pattern[str], target: str) -> dict[str, torch.Tensor]:
    """Rename the convolutions of all stages; v1 may split a stage into two stacks, which v2 numbers consecutively."""
    matches = {k: m for k in own if (m := pattern.fullmatch(k))}
    numbers: dict[tuple[int, int, int], int] = {}
    in_stage: Counter[int] = Counter()
    for place in sorted({(int(m[1]), int(m[2] or 0), int(m[3])) for m in matches.values()}):
        numbers[place] = in_stage[place[0]]
        in_stage[place[0]] += 1
    renamed = {}
    for key, m in matches.items():
        number = numbers[int(m[1]), int(m[2] or 0), int(m[3])]
        renamed[f"{target.format(m[1])}.{number}.{_KINDS[m[4]]}.{m[5]}"] = own[key]
    return renamed


def _convert(found: Found) -> Converted:
    tensors = _renamed(found.tensors)
    architecture = architecture_from_shapes(tensors)
    notes = [
        "nnU-Net v1: the architecture was derived from the shapes",
        *note_on_others(prefixes_of(found.tensors, _PREFIX)),
    ]
    if len({tuple(kernel) for kernel in architecture["arch_kwargs"]["kernel_sizes"]}) > 1:
        # Generic_UNet: conv_blocks_localization takes conv_kernel_sizes[-(u + 1)], nnU-Net v2 one stage further up
        notes.append("v1's decoder stages have the kernel of the stage below; the transfer fits it to v2's")
    return Converted(
        tensors,
        architecture,
        input_channels_of(tensors),
        citation=NNUNET_PAPER,
        notes=tuple(notes),
    )


NNUNET_V1 = Format("nnU-Net v1", lambda found: any("conv_blocks_context." in key for key in found.tensors), _convert)
