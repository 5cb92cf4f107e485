"""MONAI's `DynUNet`, which is nnU-Net's plain U-Net with other names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from nnunet_transfer.checkpoints import stated
from nnunet_transfer.checkpoints.converted import Converted, Format
from nnunet_transfer.checkpoints.copies import by_canonical_key
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.nnunet_v2 import input_channels_of, parts_of
from nnunet_transfer.checkpoints.several import note_on_others, preferred, prefixes_of
from nnunet_transfer.checkpoints.shapes import architecture_from_shapes
from nnunet_transfer.errors import CheckpointError

DYNUNET_PAPER = "Isensee et al., nnU-Net, Nature Methods 18, 203-211 (2021), as MONAI's DynUNet, arXiv 2211.02701"
_ANCHOR = re.compile(r"(.*?)input_block\.conv1\.conv\.weight$")
_DOWN = re.compile(r"downsamples\.(\d{1,2})\.")
_UNIT = r"(?:conv(?P<conv>[12])\.conv|norm(?P<norm>[12]))\.(?P<kind>.+)"
_ENCODER = re.compile(rf"(?:(?P<first>input_block)|downsamples\.(?P<stage>\d{{1,2}})|bottleneck)\.{_UNIT}")
_DECODER = re.compile(rf"upsamples\.(?P<stage>\d{{1,2}})\.(?:conv_block\.{_UNIT}|transp_conv\.conv\.(?P<up>.+))")
_HEAD = re.compile(r"(?:output_block|deep_supervision_heads\.(?P<stage>\d{1,2}))\.conv\.conv\.(?P<kind>.+)")
#: its layers; the file also has their aliases, as MONAI nests them, and what training adds
_LAYERS = ("input_block.", "downsamples.", "bottleneck.", "upsamples.", "output_block.", "deep_supervision_heads.")


def _recognise(found: Found) -> bool:
    return any(_ANCHOR.fullmatch(key) for key in found.tensors)


def _convert(found: Found) -> Converted:
    tensors = _renamed(found.tensors)
    notes = [
        "nonlinearity, strides and kind of norm are taken as nnU-Net's where no tensor shows them",
        *note_on_others(prefixes_of(found.tensors, _ANCHOR)),
    ]
    if any(re.fullmatch(r"decoder\.transpconvs\.\d+\.bias", key) for key in tensors) and not any(
        key.endswith("convs.0.conv.bias") for key in tensors
    ):
        tensors = {k: t for k, t in tensors.items() if not re.fullmatch(r"decoder\.transpconvs\.\d+\.bias", k)}
        notes.append(
            "its transposed convolutions have a bias, which nnU-Net's don't have where the other convolutions have none: left out"
        )
    architecture = architecture_from_shapes(tensors)
    if any(
        kernel != architecture["arch_kwargs"]["kernel_sizes"][0]
        for kernel in architecture["arch_kwargs"]["kernel_sizes"]
    ):
        notes.append(
            "its kernels differ between stages, and its decoder has those of the stage below: fitted to nnU-Net's"
        )
    metadata = stated.mapping(found.metadata)
    data = metadata.get("data_source")
    return Converted(
        tensors,
        architecture,
        input_channels_of(tensors),
        parts=parts_of(tensors),
        trained_on=(data,) if isinstance(data, str) and data.strip() else (),
        citation="; ".join(stated.words(metadata.get("references"))) or DYNUNET_PAPER,
        notes=tuple(notes),
    )


def _renamed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under nnU-Net's names.

    Raises
    ------
    CheckpointError
        If it has residual blocks, or parts that aren't MONAI's.
    """
    own = by_canonical_key(tensors)
    prefix = preferred(prefixes_of(tensors, _ANCHOR))
    own = {key.removeprefix(prefix): tensor for key, tensor in own.items() if key.startswith(prefix)}
    if any(".conv3." in key for key in own):
        raise CheckpointError("MONAI's DynUNet with residual blocks: nnU-Net's shortcuts differ; use one without them")
    downs = 1 + max((int(m[1]) for key in own if (m := _DOWN.match(key))), default=-1)
    renamed = {}
    for key, tensor in own.items():
        if key.startswith(_LAYERS):
            renamed[_new_name(key, downs)] = tensor
    return renamed


def _new_name(key: str, downs: int) -> str:
    if match := _ENCODER.fullmatch(key):
        stage = 0 if match["first"] else int(match["stage"]) + 1 if match["stage"] else downs + 1
        return f"encoder.stages.{stage}.0.{_unit(match)}"
    if match := _DECODER.fullmatch(key):
        if match["up"]:
            return f"decoder.transpconvs.{match['stage']}.{match['up']}"
        return f"decoder.stages.{match['stage']}.{_unit(match)}"
    if match := _HEAD.fullmatch(key):
        # MONAI counts from the finest up, nnU-Net from the coarsest
        stage = int(match["stage"]) + 1 if match["stage"] else 0
        if stage <= downs:
            return f"decoder.seg_layers.{downs - stage}.{match['kind']}"
    raise CheckpointError(f"{key} is not part of MONAI's DynUNet")


def _unit(match: re.Match[str]) -> str:
    number = int(match["conv"] or match["norm"]) - 1
    return f"convs.{number}.{'conv' if match['conv'] else 'norm'}.{match['kind']}"


DYNUNET = Format("MONAI's DynUNet", _recognise, _convert)
