"""MONAI's U-Net of residual units, as of SynthStroke and many bundles of MONAI's model zoo.

Kerfoot et al., Left-ventricle quantification using residual U-Net, STACOM 2018, doi 10.1007/978-3-030-12029-0_40; the
class `UNet` of MONAI 1.5. Its encoder halves the image at once, and what it has at full resolution is as wide as the labels
are many: the features of the last stage are its original output, and nnU-Net's output layer reads them. Names below a stage
are MONAI's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.networks.unet import Counted, Decoder, Encoder, Layers, Sizes, UNet, per_stage

_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class NormAct(nn.Module):
    """A norm and a nonlinearity, with MONAI's names for them."""

    def __init__(self, layers: Layers, channels: int) -> None:
        super().__init__()
        self.N = layers.norm(channels)
        self.A = layers.nonlinearity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        result: torch.Tensor = self.A(self.N(x))
        return result


class Nothing(Counted):
    """The identity: the first stage, which is the image, and stages of the decoder without residual units."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        return x


class Unit(Counted):
    """A convolution, with norm and nonlinearity unless `bare`."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, kernel: Sizes, stride: Sizes | int = 1, bare: bool = False
    ) -> None:
        super().__init__()
        self.conv = layers.convolution(inputs, outputs, kernel, stride)
        self.adn = nn.Identity() if bare else NormAct(layers, outputs)
        self.map_values = outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        result: torch.Tensor = self.adn(self.conv(x))
        return result


class ResidualUnit(Counted):
    """Units whose output is added to a shortcut, which is a convolution if size or width change."""

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        outputs: int,
        kernel: Sizes,
        count: int,
        stride: Sizes | int = 1,
        bare: bool = False,
    ) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * count]
        self.conv = nn.Sequential()
        for n in range(count):
            unit = Unit(layers, widths[n], outputs, kernel, 1 if n else stride, bare and n == count - 1)
            self.conv.add_module(f"unit{n}", unit)
        strided = stride != 1 and math.prod([stride] if isinstance(stride, int) else stride) != 1
        self.residual: nn.Module = nn.Identity()
        if strided:
            self.residual = layers.convolution(inputs, outputs, kernel, stride)
        elif inputs != outputs:
            self.residual = layers.pointwise(inputs, outputs)
        self.map_values = outputs * (count + (strided or inputs != outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        result: torch.Tensor = self.conv(x) + self.residual(x)
        return result


def _unit(
    layers: Layers, inputs: int, outputs: int, kernel: Sizes, count: int, stride: Sizes | int = 1
) -> Unit | ResidualUnit:
    """Make a residual unit of `count` convolutions; a plain one if it is 0."""
    if count:
        return ResidualUnit(layers, inputs, outputs, kernel, count, stride)
    return Unit(layers, inputs, outputs, kernel, stride)


class Deepest(Counted):
    """The last stage: a unit that changes the size, one that keeps it, and both their outputs."""

    def __init__(self, down: Unit | ResidualUnit, bottom: Unit | ResidualUnit) -> None:
        super().__init__()
        self.down = down
        self.bottom = bottom
        self.map_values = down.map_values + bottom.map_values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to features."""
        x = self.down(x)
        return torch.cat((x, self.bottom(x)), dim=1)


class Upward(nn.Module):
    """A transposed convolution of kernel 3, whose taps overlap, with norm and nonlinearity unless `bare`."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, kernel: Sizes, stride: Sizes, bare: bool = False
    ) -> None:
        super().__init__()
        transposed: Any = _TRANSPOSED[layers.dimensions]
        padding = tuple(k // 2 for k in kernel)
        # the output is larger by the stride, for any kernel
        rest = tuple(s - k + 2 * p for s, k, p in zip(stride, kernel, padding, strict=True))
        self.up = transposed(inputs, outputs, tuple(kernel), tuple(stride), padding, rest, bias=layers.conv_bias)
        self.adn = nn.Identity() if bare else NormAct(layers, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features to larger ones."""
        result: torch.Tensor = self.adn(self.up(x))
        return result


class MonaiDecoder(Decoder):
    """From the deepest features up: enlarge, convolve, and join with the encoder's features of that size."""

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Map the encoder's features to segmentations, the largest first."""
        x = features[-1]
        outputs = []
        last = len(self.stages) - 1
        for number, (enlarge, stage, head) in enumerate(
            zip(self.transpconvs, self.stages, self.seg_layers, strict=True)
        ):
            own = stage(enlarge(x))
            if self.deep_supervision or number == last:
                outputs.append(head(own))
            if number < last:
                x = torch.cat((features[-2 - number], own), dim=1)
        return outputs[::-1] if self.deep_supervision else outputs[0]


class MonaiUNet(UNet):
    """MONAI's U-Net with nnU-Net's keywords.

    Parameters
    ----------
    n_stages : one for the image itself, and one for each of MONAI's layers that change the size
    features_per_stage : first the channels of the original output, then those of MONAI's layers, the bottom's apart
    bottom_channels : channels of the layer at the bottom
    n_conv_per_stage : convolutions of each residual unit, MONAI's `num_res_units`; 0: there are no residual units
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
        n_conv_per_stage: int | Sequence[int],
        bottom_channels: int,
        conv_bias: bool = True,
        norm_op: type[nn.Module] = nn.InstanceNorm3d,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        nonlin: type[nn.Module] = nn.PReLU,
        nonlin_kwargs: Mapping[str, Any] | None = None,
        deep_supervision: bool = False,
    ) -> None:
        layers = Layers(conv_op, conv_bias, norm_op, norm_op_kwargs, nonlin, nonlin_kwargs)
        features, kernels, steps = layers.stage_settings(n_stages, features_per_stage, kernel_sizes, strides)
        counts = per_stage(n_conv_per_stage, n_stages)
        widths = [input_channels, *features[1:]]
        downs = [_unit(layers, widths[s - 1], widths[s], kernels[s], counts[s], steps[s]) for s in range(1, n_stages)]
        bottom = _unit(layers, widths[-1], bottom_channels, kernels[-1], counts[-1])
        encoder = Encoder(
            [Nothing(), *downs[:-1], Deepest(downs[-1], bottom)],
            [*widths[:-1], widths[-1] + bottom_channels],
            steps,
            kernels,
            layers,
        )
        upwards = range(n_stages - 2, -1, -1)
        read = [widths[-1] + bottom_channels, *(2 * features[s] for s in upwards if s)]
        decoder = MonaiDecoder(
            [
                Upward(layers, inputs, features[s], kernels[s + 1], steps[s + 1], bare=s == 0 and not counts[s])
                for s, inputs in zip(upwards, read, strict=True)
            ],
            [
                ResidualUnit(layers, features[s], features[s], kernels[s], 1, bare=s == 0) if counts[s] else Nothing()
                for s in upwards
            ],
            [features[s] for s in upwards],
            num_classes,
            deep_supervision,
            conv_op,
        )
        super().__init__(encoder, decoder, [features[s] for s in upwards])
