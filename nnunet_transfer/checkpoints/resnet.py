"""ResNets of torchvision, timm and packages based on them, and MedicalNet's 3D ResNets.

nnU-Net's `ResidualEncoderUNet` is a ResNet-D from stage 1 on: `layerS.B.convC/bnC` becomes
`encoder.stages.S.blocks.B.convC.{conv,norm}`, and the shortcut's convolution, after average pooling, `skip`. From
ResNet-D weights stages 2 to 4 compute exactly what the original does. The shortcut of a plain ResNet
uses strides instead of pooling, so its weights load but the function differs slightly. The stem is nnU-Net's: a 7×7 stem
is folded into it, the three-layer stem of ResNet-D is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch

from nnunet_transfer.checkpoints.converted import Converted, Format
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.checkpoints.papers import RESNET_PAPER
from nnunet_transfer.checkpoints.several import note_on_others, preferred
from nnunet_transfer.errors import CheckpointError, one_line
from nnunet_transfer.plans.architectures import Architecture
from nnunet_transfer.plans.profiles import PROFILES

ANCHOR = "layer1.0.conv1.weight"
#: parts that change the computation of a block and don't exist in nnU-Net's blocks; others are named by their keys
_FOREIGN = {"se": "squeeze-and-excitation", "se_module": "squeeze-and-excitation", "attn": "attention"}
_IN_BLOCK = re.compile(r"layer[1-4]\.\d+\.(\w+)")
_TENSOR = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_LAYER = re.compile(rf"layer([1-4])\.(\d+)\.(conv|bn)([123])\.{_TENSOR}")
_CONVOLUTION = re.compile(r"(layer[1-4]\.\d+)\.conv([123])\.weight")
#: names of networks that have a plain ResNet's tensors and compute something else -> how they differ
_NAMES = {
    re.compile(r"resne[sx]?t(aa|blur)"): "smooths where it strides (anti-aliasing), which nnU-Net's blocks don't",
    re.compile(r"caffe|msra"): "strides in the first convolution of a block, nnU-Net's in the second",
}
#: what states a network's name: timm's training, the settings of timm and of segmentation_models_pytorch
_NAMED_BY = ("arch", "architecture", "encoder_name")
_REPOSITORY = re.compile(r"models--[^/]+?--([^/]+)/snapshots/")
_SHORTCUT = re.compile(rf"layer([1-4])\.0\.downsample\.([012])\.{_TENSOR}")


def _prefixes(tensors: Mapping[str, torch.Tensor]) -> set[str]:
    return {k[: -len(ANCHOR)] for k in tensors if k == ANCHOR or k.endswith(f".{ANCHOR}")}


def _convert(found: Found) -> Converted:
    prefix = preferred(_prefixes(found.tensors))
    own = {k[len(prefix) :]: t for k, t in found.tensors.items() if k.startswith(prefix)}
    _check_blocks(own)
    blocks = {(int(m[1]), int(m[2])) for k in own if (m := _LAYER.match(k))}
    counts = tuple(sum(layer == s for layer, _ in blocks) for s in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in own
    if 0 in counts:
        raise CheckpointError(f"the ResNet has {counts} blocks in its four layers; all four are needed")
    last = "conv3" if bottleneck else "conv2"
    widths = tuple(_shape(own, f"layer{s}.0.{last}.weight")[0] for s in range(1, 5))
    inner = tuple(_shape(own, f"layer{s}.0.conv1.weight")[0] for s in range(1, 5))
    kernel = _shape(own, "layer1.0.conv2.weight")
    if kernel[1] != inner[0]:
        raise CheckpointError(
            "the ResNet has grouped convolutions (ResNeXt), which nnU-Net's blocks don't have; not loaded"
        )
    tensors = _renamed(own)
    dimensions = len(kernel) - 2
    stem_width = _shape(own, "layer1.0.conv1.weight")[1]
    profile = replace(
        PROFILES["resnet18"],
        features=(stem_width, *widths),
        blocks=(1, *counts),
        bottleneck_channels=(stem_width // 4, *inner) if bottleneck else (),
        norms=PROFILES["resnet18"].norms if _has_statistics(own) else ("InstanceNorm", "InstanceNorm"),
    )
    architecture = _card_architecture(profile.architecture(dimensions))
    first = "conv1.weight" if "conv1.weight" in own else "conv1.0.weight"
    channels = _shape(own, first)[1] if first in own else 3
    natural = dimensions == 2 and channels == 3
    return Converted(
        tensors,
        architecture,
        channels,
        channel_names=("R", "G", "B") if natural else (),
        parts="encoder",
        citation=RESNET_PAPER,
        notes=(*_notes(own, tensors, found), *note_on_others(_prefixes(found.tensors))),
    )


def _check_blocks(own: Mapping[str, torch.Tensor]) -> None:
    for key in own:
        match = _IN_BLOCK.match(key)
        if match and not (_LAYER.fullmatch(key) or _SHORTCUT.fullmatch(key)):
            what = _FOREIGN.get(match[1], match[1])
            raise CheckpointError(f"the ResNet has {what} in its blocks, which nnU-Net's blocks don't have; not loaded")
    blocks = {match.groups() for key in own if (match := _CONVOLUTION.fullmatch(key))}
    if len({(place, "3") in blocks for place, number in blocks if number == "2"}) > 1:
        raise CheckpointError(
            "the ResNet has blocks of two and of three convolutions; nnU-Net's networks have one kind"
        )


def _renamed(own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors = {}
    for key, tensor in own.items():
        if _is_bias(key, own):
            continue
        if match := _LAYER.fullmatch(key):
            stage, block, kind, number, rest = match.groups()
            name = "conv" if kind == "conv" else "norm"
            tensors[f"encoder.stages.{stage}.blocks.{block}.conv{number}.{name}.{rest}"] = tensor
        elif match := _SHORTCUT.fullmatch(key):
            stage, _, rest = match.groups()
            # torchvision: convolution, norm; ResNet-D: pooling, convolution, norm
            name = "conv" if tensor.dim() > 1 else "norm"
            # every stage of nnU-Net's encoder is strided, so pooling comes first
            tensors[f"encoder.stages.{stage}.blocks.0.skip.1.{name}.{rest}"] = tensor
        elif key.startswith("bn1.") and own.get("conv1.weight") is not None:
            tensors[f"encoder.stem.convs.0.norm.{key[len('bn1.') :]}"] = tensor
    if "conv1.weight" in own:
        tensors["encoder.stem.convs.0.conv.weight"] = own["conv1.weight"]
    return tensors


def _is_bias(key: str, own: Mapping[str, torch.Tensor]) -> bool:
    """Whether a tensor is the bias of a convolution in a block."""
    weight = own.get(f"{key.removesuffix('bias')}weight")
    return key.startswith("layer") and key.endswith(".bias") and weight is not None and weight.dim() > 1


def _notes(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], found: Found) -> list[str]:
    notes = ["stage 0 of nnU-Net's encoder, at full resolution, has no counterpart and starts at random"]
    if "conv1.0.weight" in own:
        notes.append("the three-layer stem of ResNet-D has no counterpart; the stem starts at random")
    if any(k.startswith("layer2.0.downsample.0.") for k in own):
        notes.append("the original's shortcuts use strides where nnU-Net's use average pooling")
    if not any(".skip." in k for k in tensors):
        notes.append("the original's shortcuts have no weights (type A); those of the target start at random")
    if any(_is_bias(key, own) for key in own):
        notes.append("convolutions of its blocks have a bias, which nnU-Net's don't have: left out")
    notes += _notes_on_name(found)
    if any(k.startswith("classifier.") or ".aspp." in k for k in found.tensors):
        notes.append("segmentation networks of torchvision and DeepLab dilate layers 3 and 4 instead of striding")
    if own["layer1.0.conv2.weight"].dim() == 5:
        notes.append(
            "if it is MedicalNet's, the original dilates layers 3 and 4 instead of striding: no tensor shows it"
        )
    if not _has_statistics(own):
        notes.append("the original's norm keeps no statistics (GroupNorm?); InstanceNorm takes its affine part")
    return notes


def _notes_on_name(found: Found) -> list[str]:
    """Return notes on what the network's name says and no tensor shows, or on what is assumed."""
    stated = [mapping.get(key) for mapping in (found.top, found.network or {}) for key in _NAMED_BY]
    # Hugging Face's cache: models--<owner>--<repository>/snapshots/<commit>/<file>
    names = [*stated, *_REPOSITORY.findall(str(found.path)), found.path.name]
    for name in names:
        for pattern, difference in _NAMES.items():
            if isinstance(name, str) and pattern.search(name.lower()):
                return [f"by its name, {one_line(name, 100)}, the original {difference}"]
    return ["no tensor shows anti-aliasing, dilation or where a block strides; blocks like torchvision's are assumed"]


def _has_statistics(own: Mapping[str, torch.Tensor]) -> bool:
    return "layer1.0.bn1.running_mean" in own


def _shape(tensors: Mapping[str, torch.Tensor], key: str) -> tuple[int, ...]:
    if key not in tensors or tensors[key].dim() not in (4, 5):
        raise CheckpointError(f"the ResNet's {key} is missing or is not a 2D or 3D convolution; the file is incomplete")
    return tuple(tensors[key].shape)


def _card_architecture(architecture: Architecture) -> dict[str, object]:
    return {
        "network_class_name": architecture["network_class_name"],
        "arch_kwargs": architecture["arch_kwargs"],
        "arch_kwargs_req_import": architecture["_kw_requires_import"],
    }


RESNET = Format("ResNet", lambda found: bool(_prefixes(found.tensors)), _convert)
