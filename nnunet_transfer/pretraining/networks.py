"""Networks for pre-training, built from nnU-Net's networks so that weights keep nnU-Net's names."""

from __future__ import annotations

import torch
from torch import nn

from nnunet_transfer.errors import PlansError

#: SimCLR's: Chen et al., ICML 2020 (arXiv:2002.05709), section 3
PROJECTION_SIZE = 128


class PooledEncoder(nn.Module):
    """The encoder of a U-Net, global average pooling of its deepest features, and a head.

    The encoder is registered as `encoder`, so its weights have the same names as in the U-Net. There is no decoder, because
    parameters without gradients stop distributed training.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images `(batch, channel, *spatial)` to the head's outputs `(batch, outputs)`."""
        features = self.encoder(image)[-1]
        return self.head(features.flatten(start_dim=2).mean(dim=2))


def classification_network(unet: nn.Module, classes: int) -> PooledEncoder:
    """Make a classifier from the encoder of one of nnU-Net's U-Nets: pooling and a linear layer.

    Raises
    ------
    PlansError
        If the network has no encoder whose outputs are known.
    """
    encoder, features = _encoder_of(unet)
    return PooledEncoder(encoder, nn.Linear(features, classes))


def contrastive_network(unet: nn.Module) -> PooledEncoder:
    """Make SimCLR's network from the encoder of one of nnU-Net's U-Nets: pooling and two normalised linear layers.

    Raises
    ------
    PlansError
        If the network has no encoder whose outputs are known.
    """
    encoder, features = _encoder_of(unet)
    # normalised over the batch as in the authors' code: after instance normalisation and pooling, the features of
    # different images are nearly the same
    projection = nn.Sequential(
        nn.Linear(features, features, bias=False),
        nn.BatchNorm1d(features),
        nn.ReLU(),
        nn.Linear(features, PROJECTION_SIZE, bias=False),
        nn.BatchNorm1d(PROJECTION_SIZE, affine=False),
    )
    return PooledEncoder(encoder, projection)


def _encoder_of(unet: nn.Module) -> tuple[nn.Module, int]:
    """Return the encoder and the number of its deepest features."""
    encoder = getattr(unet, "encoder", None)
    channels = getattr(encoder, "output_channels", None)
    if not isinstance(encoder, nn.Module) or not channels:
        raise PlansError(
            f"{type(unet).__name__} has no convolutional encoder to pre-train; use plans with a U-Net, such as "
            f"those of `nnunet_transfer plan -d ID --profile resnet18`"
        )
    return encoder, channels[-1]


def reconstruction_network(unet: nn.Module) -> nn.Module:
    """Prepare a U-Net, built with as many outputs as inputs and without deep supervision, for reconstruction.

    The output layers of lower resolutions are not used and are frozen, because parameters without gradients stop distributed
    training.

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
