"""STU-Net: residual blocks in encoder and decoder, enlarged by nearest neighbour and a 1×1 convolution.

Huang et al., STU-Net: scalable and transferable medical image segmentation models, arXiv 2304.06716 (2023). Names
below a stage are those of the authors' code, github.com/uni-medical/STU-Net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.networks.unet import Counted, Decoder, Encoder, Layers, Sizes, UNet, per_stage


class Block(nn.Module):
    """Two convolutions and a shortcut, which is a 1×1 convolution where `projects`."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, kernel: Sizes, stride: Sizes | int = 1, projects: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = layers.convolution(inputs, outputs, kernel, stride)
        self.norm1 = layers.norm(outputs)
        self.act1 = layers.nonlinearity()
        self.conv2 = layers.convolution(outputs, outputs, kernel)
        self.norm2 = layers.norm(outputs)
        self.act2 = layers.nonlinearity()
        # not normalised, unlike a ResNet's
        self.conv3 = layers.pointwise(inputs, outputs, stride) if projects else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        y = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        result: torch.Tensor = self.act2(y + self.conv3(x))
        return result


class Stage(Counted, nn.Sequential):
    """Blocks of one resolution; the first one changes it."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, kernel: Sizes, blocks: int, stride: Sizes | int = 1
    ) -> None:
        super().__init__(
            Block(layers, inputs, outputs, kernel, stride, projects=True),
            *(Block(layers, outputs, outputs, kernel) for _ in range(blocks - 1)),
        )
        self.map_values = outputs * (2 * blocks + 1)


class Enlarge(nn.Module):
    """A 1×1 convolution and repetition of its voxels.

    The original repeats first: the same function, but with each value computed as often as it is repeated.
    """

    def __init__(self, layers: Layers, inputs: int, outputs: int, factor: Sizes) -> None:
        super().__init__()
        self.conv = layers.pointwise(inputs, outputs)
        self.factor = tuple(float(f) for f in factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to larger ones."""
        return nn.functional.interpolate(self.conv(x), scale_factor=self.factor, mode="nearest")


class STUNet(UNet):
    """STU-Net with nnU-Net's keywords.

    Parameters
    ----------
    n_blocks_per_stage : residual blocks per stage of the encoder; 1, 2 or 3 in the published sizes
    n_conv_per_stage_decoder : residual blocks per stage of the decoder, from the deepest up
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
        n_blocks_per_stage: int | Sequence[int],
        n_conv_per_stage_decoder: int | Sequence[int],
        conv_bias: bool = True,
        norm_op: type[nn.Module] = nn.InstanceNorm3d,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        nonlin: type[nn.Module] = nn.LeakyReLU,
        nonlin_kwargs: Mapping[str, Any] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        layers = Layers(conv_op, conv_bias, norm_op, norm_op_kwargs, nonlin, nonlin_kwargs)
        features, kernels, steps = layers.stage_settings(n_stages, features_per_stage, kernel_sizes, strides)
        blocks = per_stage(n_blocks_per_stage, n_stages)
        encoder = Encoder(
            [
                Stage(layers, inputs, features[s], kernels[s], blocks[s], steps[s])
                for s, inputs in enumerate((input_channels, *features[:-1]))
            ],
            features,
            steps,
            kernels,
            layers,
        )
        upwards = range(n_stages - 2, -1, -1)
        above = [features[s] for s in upwards]
        decoder = Decoder(
            [Enlarge(layers, features[s + 1], features[s], steps[s + 1]) for s in upwards],
            [
                Stage(layers, 2 * features[s], features[s], kernels[s], depth)
                for s, depth in zip(upwards, per_stage(n_conv_per_stage_decoder, n_stages - 1), strict=True)
            ],
            above,
            num_classes,
            deep_supervision,
            conv_op,
        )
        super().__init__(encoder, decoder, above)
