"""The base of these networks: encoder, decoder and U-Net as nnU-Net's trainers, planners and predictors use them.

Checked against nnunetv2 2.8.1 and dynamic-network-architectures 0.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

Sizes = Sequence[int]


@dataclass(frozen=True)
class Layers:
    """The kinds of layers in a network, with nnU-Net's names.

    Attributes
    ----------
    conv_op, conv_bias : class of the convolutions, and whether they have a bias
    norm_op, norm_op_kwargs : class of the norms and its options
    nonlin, nonlin_kwargs : class of the nonlinearities and its options
    """

    conv_op: type[nn.Module]
    conv_bias: bool
    norm_op: type[nn.Module]
    norm_op_kwargs: Mapping[str, Any] | None
    nonlin: type[nn.Module]
    nonlin_kwargs: Mapping[str, Any] | None

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return next(n for n, op in ((2, nn.Conv2d), (3, nn.Conv3d)) if issubclass(self.conv_op, op))

    def convolution(self, inputs: int, outputs: int, kernel: Sizes, stride: Sizes | int = 1) -> nn.Module:
        """Make a convolution that changes the size only by its stride."""
        padding = tuple(k // 2 for k in kernel)
        stride = stride if isinstance(stride, int) else tuple(stride)
        return self.conv_op(inputs, outputs, tuple(kernel), stride, padding, bias=self.conv_bias)

    def pointwise(self, inputs: int, outputs: int, stride: Sizes | int = 1) -> nn.Module:
        """Make a convolution of kernel 1."""
        return self.convolution(inputs, outputs, (1,) * self.dimensions, stride)

    def norm(self, channels: int) -> nn.Module:
        """Make a norm."""
        return self.norm_op(channels, **(self.norm_op_kwargs or {}))

    def nonlinearity(self) -> nn.Module:
        """Make a nonlinearity."""
        return self.nonlin(**(self.nonlin_kwargs or {}))

    def stage_settings(
        self,
        stages: int,
        features: int | Sequence[int],
        kernels: int | Sequence[int | Sizes],
        strides: int | Sequence[int | Sizes],
    ) -> tuple[list[int], list[list[int]], list[list[int]]]:
        """Return the features per stage, and the kernel sizes and strides per stage and axis."""
        dimensions = self.dimensions
        return (
            per_stage(features, stages),
            per_stage_and_axis(kernels, stages, dimensions),
            per_stage_and_axis(strides, stages, dimensions),
        )


class Counted(nn.Module):
    """A part of a network that states the channels of its convolutions, which all have the size of its output."""

    map_values = 0

    def compute_conv_feature_map_size(self, size: Sizes) -> int:
        """Return the number of values in the convolutions' outputs, of `size`."""
        return self.map_values * math.prod(size)


class Encoder(nn.Module):
    """Stages one after the other; the outputs of all are returned, the deepest last.

    Parameters
    ----------
    stages : `Counted`, or with a `compute_conv_feature_map_size` of their own
    channels : output channels per stage
    strides, kernel_sizes : per stage and axis
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sizes,
        strides: Sequence[Sizes],
        kernel_sizes: Sequence[Sizes],
        layers: Layers,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        # nnU-Net's names; the transfer report compares strides, norms and nonlinearities
        self.output_channels = list(channels)
        self.strides = [list(stride) for stride in strides]
        self.kernel_sizes = [list(kernel) for kernel in kernel_sizes]
        self.conv_op = layers.conv_op
        self.norm_op = layers.norm_op
        self.nonlin = layers.nonlin

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map images `(batch, channel, *spatial)` to the features of all stages."""
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features


class Decoder(nn.Module):
    """From the deepest features up: enlarge, join with the encoder's features of that size, convolve, and map to classes.

    Parameters
    ----------
    transpconvs : what enlarges, from the deepest stage up
    stages : as the encoder's
    channels : output channels per stage
    deep_supervision : whether all stages give a segmentation, or the last alone
    """

    def __init__(
        self,
        transpconvs: Sequence[nn.Module],
        stages: Sequence[nn.Module],
        channels: Sizes,
        num_classes: int,
        deep_supervision: bool,
        conv_op: type[nn.Module],
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.num_classes = num_classes
        self.transpconvs = nn.ModuleList(transpconvs)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleList(conv_op(n, num_classes, 1, bias=True) for n in channels)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Map the encoder's features to segmentations, the largest first."""
        x = features[-1]
        outputs = []
        last = len(self.stages) - 1
        for number, (enlarge, stage, head) in enumerate(
            zip(self.transpconvs, self.stages, self.seg_layers, strict=True)
        ):
            x = stage(torch.cat((enlarge(x), features[-2 - number]), dim=1))
            if self.deep_supervision or number == last:
                outputs.append(head(x))
        return outputs[::-1] if self.deep_supervision else outputs[0]


class UNet(nn.Module):
    """An encoder and a decoder, with the attributes that nnU-Net expects of its U-Nets."""

    def __init__(self, encoder: Encoder, decoder: Decoder, enlarged_channels: Sizes) -> None:
        """Join the parts; `enlarged_channels` are the output channels of each of the decoder's `transpconvs`."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self._enlarged_channels = tuple(enlarged_channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Map images `(batch, channel, *spatial)` to segmentations."""
        segmentation: torch.Tensor | list[torch.Tensor] = self.decoder(self.encoder(image))
        return segmentation

    def compute_conv_feature_map_size(self, input_size: Sizes) -> int:
        """Return the number of values in the outputs of all convolutions for one image: nnU-Net's unit of memory."""
        sizes = []
        size = list(input_size)
        for stride in self.encoder.strides:
            size = [n // s for n, s in zip(size, stride, strict=True)]
            sizes.append(size)
        total = sum(_cost(stage, size) for stage, size in zip(self.encoder.stages, sizes, strict=True))
        upwards = sizes[-2::-1]
        for stage, channels, size in zip(self.decoder.stages, self._enlarged_channels, upwards, strict=True):
            total += _cost(stage, size) + channels * math.prod(size)
        supervised = upwards if self.decoder.deep_supervision else upwards[-1:]
        return total + sum(self.decoder.num_classes * math.prod(size) for size in supervised)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialise a module's weights as nnU-Net does."""
        InitWeights_He(1e-2)(module)


def _cost(stage: Any, size: Sizes) -> int:
    cost: int = stage.compute_conv_feature_map_size(size)
    return cost


def per_stage(value: int | Sequence[int], stages: int) -> list[int]:
    """Return one number per stage."""
    return [value] * stages if isinstance(value, int) else list(value)


def per_stage_and_axis(value: int | Sequence[int | Sizes], stages: int, dimensions: int) -> list[list[int]]:
    """Return one number per stage and axis."""
    entries = [value] * stages if isinstance(value, int) else list(value)
    return [[entry] * dimensions if isinstance(entry, int) else list(entry) for entry in entries]
