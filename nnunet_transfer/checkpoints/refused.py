"""Formats without use for an nnU-Net CNN, recognised by their keys to give the reason for the refusal."""

from __future__ import annotations

import re
from typing import NoReturn

from nnunet_transfer.checkpoints.converted import Format
from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.errors import CheckpointError

#: pattern of a key -> description of the network
_REFUSED: dict[str, tuple[re.Pattern[str], str]] = {
    "Swin transformer": (
        re.compile(r"(^|\.)(swinViT|swin_vit|layers\d?\.\d+\.(0\.)?blocks\.\d+\.attn)\."),
        "a Swin transformer; a transformer's weights don't fit a CNN",
    ),
    "vision transformer": (
        re.compile(r"(^|\.)(eva|blocks\.\d+\.attn|cls_token|pos_embed|patch_embed\d*|transformer\.)(\.|$)"),
        "a vision transformer; a transformer's weights don't fit a CNN",
    ),
    "MedNeXt": (
        re.compile(r"(^|\.)(enc|dec)_block_\d+\.\d+\.conv1\."),
        "a MedNeXt; its depthwise convolutions have no counterpart in nnU-Net's networks",
    ),
    "EfficientNet or ConvNeXt": (
        re.compile(r"(^|\.)(conv_dw|_depthwise_conv|dwconv)\."),
        "a network of depthwise convolutions, such as EfficientNet, MobileNet or ConvNeXt, which nnU-Net's networks don't have",
    ),
    "DenseNet": (
        re.compile(r"(^|\.)denseblock1\."),
        "a DenseNet: each layer reads all earlier ones, unlike in nnU-Net's networks",
    ),
    "SegResNet": (
        re.compile(r"(^|\.)(convInit|down_layers)\."),
        "MONAI's SegResNet: it normalises before each convolution, which nnU-Net's networks can't do",
    ),
}


def _refusal(name: str, pattern: re.Pattern[str], reason: str) -> Format:
    def convert(found: Found) -> NoReturn:
        raise CheckpointError(f"{found.path.name} is {reason}")

    return Format(name, lambda found: any(pattern.search(key) for key in found.tensors), convert)


REFUSED = tuple(_refusal(name, pattern, reason) for name, (pattern, reason) in _REFUSED.items())
