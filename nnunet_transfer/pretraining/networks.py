"""The networks that pre-training needs, made from nnU-Net's own so that their weights keep nnU-Net's names."""

from __future__ import annotations

import torch
from torch import nn

from nnunet_transfer.errors import PlansError


class ClassificationNetwork(nn.Module):
    """The encoder of a U-Net, global average pooling of its deepest features, and a linear layer.

    The encoder is registered as `encoder`, so its weights have the names they have in the U-Net. There is no
    decoder: a decoder that gets no gradient would stop distributed training.
    """

    def __init__(self, encoder: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(features, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images `(batch, channel, *spatial)` to class logits `(batch, classes)`."""
        features = self.encoder(image)[-1]
        return self.head(features.flatten(start_dim=2).mean(dim=2))


def classification_network(unet: nn.Module, classes: int) -> ClassificationNetwork:
    """Make a classifier from the encoder of one of nnU-Net's U-Nets.

    Raises
    ------
    PlansError
        If the network has no encoder whose outputs are known.
    """
    encoder = getattr(unet, "encoder", None)
    channels = getattr(encoder, "output_channels", None)
    if not isinstance(encoder, nn.Module) or not channels:
        raise PlansError(
            f"{type(unet).__name__} has no convolutional encoder to classify with; use plans with a U-Net, such as "
            f"those of `nnunet_transfer plan -d ID --profile resnet18`"
        )
    return ClassificationNetwork(encoder, channels[-1], classes)


def reconstruction_network(unet: nn.Module) -> nn.Module:
    """Prepare a U-Net, built with as many outputs as inputs and without deep supervision, for reconstruction.

    The output layers of the lower resolutions are not used then; they are frozen, because distributed training
    stops at parameters that get no gradient.

    Raises
    ------
    PlansError
        If the network has no decoder with one output layer per resolution.
    """
    outputs = getattr(getattr(unet, "decoder", None), "seg_layers", None)
    if outputs is None:
        raise PlansError(
            f"{type(unet).__name__} has no decoder to reconstruct with; use plans with a U-Net, such as those of "
            f"`nnunet_transfer plan -d ID --profile resnet18`"
        )
    for layer in outputs[:-1]:
        layer.requires_grad_(False)
    return unet
