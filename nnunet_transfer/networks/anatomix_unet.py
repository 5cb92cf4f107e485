"""anatomix' two U-Nets, trained to tell places apart in synthetic volumes of any contrast.

Dey et al., Learning general-purpose biomedical volume representations using randomized synthesis, ICLR 2025, arXiv
2411.02372; github.com/neel-dey/anatomix. Convolutions continue the image by reflection, resolution changes by pooling and
interpolation, and the last convolution gives the features that a segmentation's output layer reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.networks.unet import Counted, Decoder, Encoder, Layers, Sizes, UNet

_POOLING: Mapping[str, Mapping[int, Any]] = {
    "maximum": {2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "average": {2: nn.AvgPool2d, 3: nn.AvgPool3d},
}
#: how the decoder enlarges -> torch's mode
_MODES = {"nearest": {2: "nearest", 3: "nearest"}, "linear": {2: "bilinear", 3: "trilinear"}}
#: convolutions of a stage; the encoder's first has one more, which reads the image
CONVOLUTIONS = 2


def reflected(x: torch.Tensor, kernel: Sizes) -> torch.Tensor:
    """Continue features beyond their border, by reflection, for a convolution that keeps their size."""
    reach = [k // 2 for k in kernel]
    # a single voxel along an axis can only be repeated
    alone = [r if n == 1 else 0 for n, r in zip(x.shape[2:], reach, strict=True)]
    if any(alone):
        x = nn.functional.pad(x, _pairs(alone), "replicate")
    return nn.functional.pad(x, _pairs([r - one for r, one in zip(reach, alone, strict=True)]), "reflect")


def _pairs(reach: Sequence[int]) -> list[int]:
    # torch wants the last axis first
    return [r for axis in reversed(reach) for r in (axis, axis)]


def _convolution(layers: Layers, inputs: int, outputs: int, kernel: Sizes) -> Any:
    return layers.conv_op(inputs, outputs, tuple(kernel), bias=layers.conv_bias)


class Unit(nn.Module):
    """A convolution, a norm and a nonlinearity."""

    def __init__(self, layers: Layers, inputs: int, outputs: int, kernel: Sizes) -> None:
        super().__init__()
        self.conv = _convolution(layers, inputs, outputs, kernel)
        self.norm = layers.norm(outputs)
        self.activation = layers.nonlinearity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        x = self.conv(reflected(x, self.conv.kernel_size))
        result: torch.Tensor = self.activation(self.norm(x))
        return result


class Stage(Counted):
    """Pooling if there is a stride, then units, then a bare convolution if the stage `projects` to another width."""

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        outputs: int,
        kernel: Sizes,
        count: int = CONVOLUTIONS,
        pool: nn.Module | None = None,
        projects: int = 0,
    ) -> None:
        super().__init__()
        self.pool = pool or nn.Identity()
        self.units = nn.Sequential(*(Unit(layers, outputs if n else inputs, outputs, kernel) for n in range(count)))
        self.project = _convolution(layers, outputs, projects, kernel) if projects else None
        self.map_values = outputs * count + projects

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        x = self.units(self.pool(x))
        if self.project is not None:
            x = self.project(reflected(x, self.project.kernel_size))
        return x


class AnatomixUNet(UNet):
    """anatomix' U-Net with nnU-Net's keywords.

    Parameters
    ----------
    output_features : channels of the last convolution, which the output layer reads
    pooling : `maximum` or `average`
    upsampling : `nearest` or `linear`
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
        output_features: int,
        pooling: str = "maximum",
        upsampling: str = "nearest",
        conv_bias: bool = False,
        norm_op: type[nn.Module] = nn.BatchNorm3d,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        nonlin: type[nn.Module] = nn.ReLU,
        nonlin_kwargs: Mapping[str, Any] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        layers = Layers(conv_op, conv_bias, norm_op, norm_op_kwargs, nonlin, nonlin_kwargs)
        features, kernels, steps = layers.stage_settings(n_stages, features_per_stage, kernel_sizes, strides)
        pool, mode = _POOLING[pooling][layers.dimensions], _MODES[upsampling][layers.dimensions]
        encoder = Encoder(
            [
                Stage(
                    layers,
                    inputs,
                    features[s],
                    kernels[s],
                    CONVOLUTIONS if s else CONVOLUTIONS + 1,
                    pool(tuple(steps[s])) if max(steps[s]) > 1 else None,
                )
                for s, inputs in enumerate((input_channels, *features[:-1]))
            ],
            features,
            steps,
            kernels,
            layers,
        )
        upwards = range(n_stages - 2, -1, -1)
        decoder = Decoder(
            [nn.Upsample(scale_factor=tuple(map(float, steps[s + 1])), mode=mode) for s in upwards],
            [
                Stage(
                    layers,
                    features[s + 1] + features[s],
                    features[s],
                    kernels[s],
                    projects=0 if s else output_features,
                )
                for s in upwards
            ],
            [features[s] if s else output_features for s in upwards],
            num_classes,
            deep_supervision,
            conv_op,
        )
        super().__init__(encoder, decoder, [features[s + 1] for s in upwards])
