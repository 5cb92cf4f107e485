"""Derive the architecture of a network with nnU-Net's keys from the shapes of its tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nnunet_transfer.checkpoints.stated import UNET_IMPORTS, unet_modules
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.sources.schema import MAX_STAGES

STUNET = "nnunet_transfer.networks.stunet.STUNet"
GENESIS_UNET = "nnunet_transfer.networks.genesis_unet.GenesisUNet"
MONAI_UNET = "nnunet_transfer.networks.monai_unet.MonaiUNet"
ANATOMIX_UNET = "nnunet_transfer.networks.anatomix_unet.AnatomixUNet"
#: the networks of this package, which are also needed for prediction
OWN_NETWORKS = {
    STUNET: "STU-Net",
    GENESIS_UNET: "Models Genesis' U-Net",
    MONAI_UNET: "MONAI's U-Net",
    ANATOMIX_UNET: "anatomix' U-Net",
}
_NETWORKS = "dynamic_network_architectures.architectures.unet."
_BLOCKS = "dynamic_network_architectures.building_blocks.residual."


def architecture_from_shapes(tensors: Mapping[str, torch.Tensor], nonlin: str = "LeakyReLU") -> dict[str, Any]:
    """Return the architecture, with the keys of a source card, of a state dict with canonical names.

    Strides are those of the decoder's transposed convolutions, or 2 without a decoder. The nonlinearity is an argument, because
    only PReLU has tensors.

    Raises
    ------
    CheckpointError
        If the tensors are not those of nnU-Net's `PlainConvUNet` or `ResidualEncoderUNet`, or of `networks`.
    """
    if any(_STUNET_BLOCK.match(k) for k in tensors):
        return _stunet(tensors)
    if any(_GENESIS_UNIT.match(k) for k in tensors):
        return _genesis_unet(tensors)
    if any(_ANATOMIX_UNIT.match(k) for k in tensors):
        return _anatomix_unet(tensors)
    if any(_MONAI_UNIT.match(k) for k in tensors):
        return _monai_unet(tensors, nonlin)
    residual = any(re.match(r"encoder\.stages\.\d+\.blocks\.", k) for k in tensors)
    block = r"encoder\.stages\.(\d+)\.blocks\.(\d+)\." if residual else r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\."
    counts = _counts(tensors, block)
    if not counts:
        raise CheckpointError("the keys are not those of nnU-Net's PlainConvUNet or ResidualEncoderUNet")
    stages = len(counts)
    bottleneck = any(".conv3." in k for k in tensors)
    unit = "encoder.stages.{}.blocks.0.conv{}.conv.weight" if residual else "encoder.stages.{}.0.convs.0.conv.weight"
    # a bottleneck block has the kernel size of its middle convolution and the width of its last one
    kernel_of = [_shape(tensors, unit.format(s, 2 if bottleneck else 1)) for s in range(stages)]
    width_of = [_shape(tensors, unit.format(s, 3 if bottleneck else 1)) for s in range(stages)]
    dimensions = len(kernel_of[0]) - 2
    norm = "BatchNorm" if any(k.endswith("running_mean") for k in tensors) else "InstanceNorm"
    first = "encoder.stem.convs.0.conv" if residual else "encoder.stages.0.0.convs.0.conv"
    kwargs: dict[str, Any] = {
        "n_stages": stages,
        "features_per_stage": [shape[0] for shape in width_of],
        "kernel_sizes": [list(shape[2:]) for shape in kernel_of],
        "strides": _strides(tensors, stages, dimensions),
        ("n_blocks_per_stage" if residual else "n_conv_per_stage"): counts,
        "n_conv_per_stage_decoder": _counts(tensors, r"decoder\.stages\.(\d+)\.convs\.(\d+)\.") or [1] * (stages - 1),
        "conv_bias": f"{first}.bias" in tensors,
        **unet_modules(dimensions, norm, nonlin),
    }
    slopes = [tensor for key, tensor in tensors.items() if _SLOPE.search(key)]
    if any(tensor.numel() != 1 for tensor in slopes):
        raise CheckpointError("its PReLUs have a slope per channel; only one for all is supported")
    if slopes:
        kwargs |= {"nonlin": "torch.nn.PReLU", "nonlin_kwargs": {}}
    imports = list(UNET_IMPORTS)
    if bottleneck:
        kwargs["block"] = _BLOCKS + "BottleneckD"
        kwargs["bottleneck_channels"] = [_shape(tensors, unit.format(s, 1))[0] for s in range(stages)]
        imports.append("block")
    if residual and f"{first}.weight" in tensors and _shape(tensors, f"{first}.weight")[0] != width_of[0][0]:
        kwargs["stem_channels"] = _shape(tensors, f"{first}.weight")[0]
    return {
        "network_class_name": _NETWORKS + ("ResidualEncoderUNet" if residual else "PlainConvUNet"),
        "arch_kwargs": kwargs,
        "arch_kwargs_req_import": imports,
    }


_SLOPE = re.compile(r"\.nonlin\d?\.weight$")
_STUNET_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.(\d+)\.conv1\.weight")
_ANATOMIX_UNIT = re.compile(r"encoder\.stages\.(\d+)\.units\.(\d+)\.conv\.weight")
_MONAI_UNIT = re.compile(r"encoder\.stages\.(\d+)\.(?:down\.)?conv\.(?:unit0\.conv\.)?weight")
_GENESIS_UNIT = re.compile(r"encoder\.stages\.(\d+)\.ops\.(\d+)\.conv1\.weight")


def _stunet(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return STU-Net's architecture; upsampling has kernel 1, so no tensor shows the strides: 2 is assumed."""
    blocks = _complete(_counts(tensors, _STUNET_BLOCK.pattern))
    first = [_shape(tensors, f"encoder.stages.{s}.0.conv1.weight") for s in range(len(blocks))]
    kwargs = _common(tensors, first, [shape[0] for shape in first], "encoder.stages.0.0.conv1.bias")
    kwargs |= {
        "n_blocks_per_stage": blocks,
        "n_conv_per_stage_decoder": _counts(tensors, r"decoder\.stages\.(\d+)\.(\d+)\.conv1\.weight") or blocks[-2::-1],
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{len(first[0]) - 2}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }
    return {"network_class_name": STUNET, "arch_kwargs": kwargs, "arch_kwargs_req_import": list(_OWN_IMPORTS)}


def _genesis_unet(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the architecture of Models Genesis' U-Net.

    Raises
    ------
    CheckpointError
        If a stage doesn't have two convolutions, the second with twice as many channels.
    """
    units = _complete(_counts(tensors, _GENESIS_UNIT.pattern))
    shapes = [
        [_shape(tensors, f"encoder.stages.{s}.ops.{n}.conv1.weight") for n in range(count)]
        for s, count in enumerate(units)
    ]
    for stage, of_stage in enumerate(shapes):
        widths = [shape[0] for shape in of_stage]
        if len(widths) != 2 or widths[1] != 2 * widths[0]:
            raise CheckpointError(
                f"stage {stage} has convolutions of {', '.join(map(str, widths))} channels; those of Models Genesis' "
                f"U-Net are two, of which the second doubles the width"
            )
    first = [of_stage[0] for of_stage in shapes]
    kwargs = _common(tensors, first, [2 * shape[0] for shape in first], "encoder.stages.0.ops.0.conv1.bias")
    kwargs |= {
        "norm_op": f"torch.nn.modules.batchnorm.BatchNorm{len(first[0]) - 2}d",
        # the original also uses batch statistics in evaluation
        "norm_op_kwargs": {"eps": 1e-5, "affine": True, "track_running_stats": False},
        "nonlin": "torch.nn.ReLU",
    }
    return {"network_class_name": GENESIS_UNET, "arch_kwargs": kwargs, "arch_kwargs_req_import": list(_OWN_IMPORTS)}


def _anatomix_unet(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the architecture of anatomix' U-Net; the norm determines how it changes the size.

    Raises
    ------
    CheckpointError
        If a stage doesn't have the convolutions of anatomix' stages, or the last convolution is missing.
    """
    units = _complete(_counts(tensors, _ANATOMIX_UNIT.pattern))
    first = [_shape(tensors, f"encoder.stages.{s}.units.0.conv.weight") for s in range(len(units))]
    if units != [3, *[2] * (len(units) - 1)]:
        raise CheckpointError(f"the encoder's stages have {units} convolutions; anatomix' have 3, 2, 2, ...")
    last = _shape(tensors, f"decoder.stages.{len(units) - 2}.project.weight")
    batch = any(key.endswith("running_mean") for key in tensors)
    dimensions = len(first[0]) - 2
    norm = "BatchNorm" if batch else "InstanceNorm"
    kwargs = _common(tensors, first, [shape[0] for shape in first], "encoder.stages.0.units.0.conv.bias")
    kwargs |= {
        "output_features": last[0],
        "pooling": "maximum" if batch else "average",
        "upsampling": "nearest" if batch else "linear",
        "norm_op": f"torch.nn.modules.{norm.lower()}.{norm}{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True} if batch else {"eps": 1e-2, "affine": False},
        "nonlin": "torch.nn.ReLU",
    }
    return {"network_class_name": ANATOMIX_UNET, "arch_kwargs": kwargs, "arch_kwargs_req_import": list(_OWN_IMPORTS)}


def _monai_unet(tensors: Mapping[str, torch.Tensor], nonlin: str) -> dict[str, Any]:
    """Return the architecture of MONAI's U-Net; no tensor shows the strides, 2 is assumed.

    Raises
    ------
    CheckpointError
        If the bottom or the last layer is missing, or residual units have different numbers of convolutions.
    """
    stages = 1 + max(int(m[1]) for k in tensors if (m := _MONAI_UNIT.match(k)))
    if stages > MAX_STAGES:
        raise CheckpointError(f"the encoder has {stages} stages; at most {MAX_STAGES} make sense")
    downs = ["", *[f"encoder.stages.{s}." for s in range(1, stages - 1)], f"encoder.stages.{stages - 1}.down."]
    bottom = f"encoder.stages.{stages - 1}.bottom."
    counts = {
        len({k for k in tensors if re.match(re.escape(d) + r"conv\.unit\d+\.conv\.weight", k)}) for d in downs[1:]
    }
    if len(counts) != 1:
        raise CheckpointError("its residual units have different numbers of convolutions; MONAI's have the same")
    count = counts.pop()
    unit = "conv.unit0.conv.weight" if count else "conv.weight"
    shapes = [_shape(tensors, down + unit) for down in downs[1:]]
    top = _shape(tensors, f"decoder.transpconvs.{stages - 2}.up.weight")
    dimensions = len(top) - 2
    norms = [k for k in tensors if ".adn.N." in k]
    norm = "BatchNorm" if any(k.endswith("running_mean") for k in norms) else "InstanceNorm"
    kwargs = {
        "n_stages": stages,
        "features_per_stage": [top[1], *(shape[0] for shape in shapes)],
        "bottom_channels": _shape(tensors, bottom + unit)[0],
        "n_conv_per_stage": [count] * stages,
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [list(shape[2:]) for shape in (shapes[0], *shapes)],
        "strides": [[1] * dimensions, *[[2] * dimensions] * (stages - 1)],
        "conv_bias": f"{downs[-1]}{unit.removesuffix('weight')}bias" in tensors,
        "norm_op": f"torch.nn.modules.{norm.lower()}.{norm}{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": bool(norms)},
        "nonlin": f"torch.nn.{nonlin}",
        "nonlin_kwargs": {},
    }
    return {"network_class_name": MONAI_UNET, "arch_kwargs": kwargs, "arch_kwargs_req_import": list(_OWN_IMPORTS)}


_OWN_IMPORTS = ("conv_op", "norm_op", "nonlin")


def _common(
    tensors: Mapping[str, torch.Tensor], kernel_of: Sequence[tuple[int, ...]], widths: Sequence[int], bias: str
) -> dict[str, Any]:
    dimensions = len(kernel_of[0]) - 2
    return {
        "n_stages": len(kernel_of),
        "features_per_stage": list(widths),
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [list(shape[2:]) for shape in kernel_of],
        "strides": _strides(tensors, len(kernel_of), dimensions),
        "conv_bias": bias in tensors,
        "nonlin_kwargs": {"inplace": True},
    }


def _complete(counts: list[int]) -> list[int]:
    if 0 in counts or len(counts) < 2:
        raise CheckpointError(f"the encoder has {counts} blocks in its stages; the file is incomplete")
    return counts


def _shape(tensors: Mapping[str, torch.Tensor], key: str) -> tuple[int, ...]:
    if key not in tensors or tensors[key].dim() not in (4, 5):
        raise CheckpointError(f"{key} is missing or is not a 2D or 3D convolution; this is not nnU-Net's network")
    return tuple(tensors[key].shape)


def _counts(tensors: Mapping[str, torch.Tensor], pattern: str) -> list[int]:
    """Return the number of members of each stage; the pattern's groups are stage and member."""
    found = {(int(m[1]), int(m[2])) for k in tensors if (m := re.match(pattern, k))}
    stages = 1 + max((stage for stage, _ in found), default=-1)
    members = Counter(stage for stage, _ in found)
    # more stages than tensors are only possible with forged names
    return [members[stage] for stage in range(min(stages, len(found)))]


def _strides(tensors: Mapping[str, torch.Tensor], stages: int, dimensions: int) -> list[list[int]]:
    strides = [[1] * dimensions]
    for stage in range(1, stages):
        # nnU-Net counts decoder stages from the bottleneck up
        weight = tensors.get(f"decoder.transpconvs.{stages - 1 - stage}.weight")
        strides.append([2] * dimensions if weight is None else list(weight.shape[2:]))
    return strides
