"""The 3D U-Net of Models Genesis and of SuPreM.

Zhou et al., Models Genesis, Med Image Anal 2021;67:101840, doi 10.1016/j.media.2020.101840; Li et al., How well do
supervised models transfer to 3D image segmentation?, ICLR 2024. It follows Çiçek et al., 3D U-Net, MICCAI 2016: a
stage doubles its width inside, resolution changes by maximum pooling, and the transposed convolutions keep the number
of channels. Names below a stage are those of the authors' code, github.com/MrGiovanni/ModelsGenesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.networks.unet import Counted, Decoder, Encoder, Layers, Sizes, UNet

_POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class Unit(nn.Module):
    """A convolution, a norm and a nonlinearity."""

    def __init__(self, layers: Layers, inputs: int, outputs: int, kernel: Sizes) -> None:
        super().__init__()
        self.conv1 = layers.convolution(inputs, outputs, kernel)
        self.bn1 = layers.norm(outputs)
        self.activation = layers.nonlinearity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        result: torch.Tensor = self.activation(self.bn1(self.conv1(x)))
        return result


class Stage(Counted):
    """Maximum pooling where there is a stride, then two units of the given widths."""

    def __init__(
        self, layers: Layers, inputs: int, widths: tuple[int, int], kernel: Sizes, stride: Sizes | None = None
    ) -> None:
        super().__init__()
        pools = stride is not None and max(stride) > 1
        self.pool = _POOLING[layers.dimensions](tuple(stride)) if stride is not None and pools else nn.Identity()
        self.ops = nn.Sequential(Unit(layers, inputs, widths[0], kernel), Unit(layers, *widths, kernel))
        self.map_values = sum(widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        result: torch.Tensor = self.ops(self.pool(x))
        return result


class GenesisUNet(UNet):
    """Models Genesis' U-Net with nnU-Net's keywords; each stage has two convolutions.

    Parameters
    ----------
    features_per_stage : even numbers; the first convolution of an encoder's stage gives half as many
    norm_op, norm_op_kwargs : the original normalises by the batch's own statistics in evaluation, too, which is
        `BatchNorm3d` with `track_running_stats=False`
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        n_stages: int,
        features_per_stage: int | Sequence[int],
        conv_op: type[nn.Module],
        kernel_sizes: int | Sequence[int | Sizes],
        strides: int | Sequence[int | Sizes],
        conv_bias: bool = True,
        norm_op: type[nn.Module] = nn.BatchNorm3d,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        nonlin: type[nn.Module] = nn.ReLU,
        nonlin_kwargs: Mapping[str, Any] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        layers = Layers(conv_op, conv_bias, norm_op, norm_op_kwargs, nonlin, nonlin_kwargs)
        features, kernels, steps = layers.stage_settings(n_stages, features_per_stage, kernel_sizes, strides)
        transposed: Any = _TRANSPOSED[layers.dimensions]
        encoder = Encoder(
            [
                Stage(layers, inputs, (features[s] // 2, features[s]), kernels[s], steps[s])
                for s, inputs in enumerate((input_channels, *features[:-1]))
            ],
            features,
            steps,
            kernels,
            layers,
        )
        upwards = range(n_stages - 2, -1, -1)
        below = [features[s + 1] for s in upwards]
        decoder = Decoder(
            [
                transposed(features[s + 1], features[s + 1], tuple(steps[s + 1]), tuple(steps[s + 1]), bias=conv_bias)
                for s in upwards
            ],
            [Stage(layers, features[s + 1] + features[s], (features[s], features[s]), kernels[s]) for s in upwards],
            [features[s] for s in upwards],
            num_classes,
            deep_supervision,
            conv_op,
        )
        super().__init__(encoder, decoder, below)
