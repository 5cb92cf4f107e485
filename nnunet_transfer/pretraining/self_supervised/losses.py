"""Losses and error measures of self-supervised pre-training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from nnunet_transfer.training.precision import doubled

#: SimCLR's own for small images (CIFAR-10, batches of 512; github.com/google-research/simclr, README), and that of
#: nnssl's SimCLR for MRI; with batches of 4096 from ImageNet the authors take 0.1
TEMPERATURE = 0.5


class MaskedMSELoss(nn.Module):
    """Mean squared error over the hidden voxels of all channels; visible voxels don't count.

    As in He et al., CVPR 2022 (doi:10.1109/CVPR52688.2022.01553), section 3, on the normalised intensities.
    """

    def forward(self, output: torch.Tensor, target: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the loss, a scalar in float32.

        Parameters
        ----------
        output : reconstruction, `(batch, channel, *spatial)`
        target : the image, of the same shape, and the mask `(batch, 1, *spatial)`, true where hidden
        """
        image, mask = target
        # half precision (autocast) would lose small differences and overflow in the sum
        squared = (output.float() - image.float()).square() * mask
        return squared.sum() / (mask.sum() * image.shape[1]).clamp(min=1)


class NTXentLoss(nn.Module):
    """Cross-entropy of finding each view's partner among all other views, by the cosine of their projections.

    Chen et al., ICML 2020 (arXiv:2002.05709), equation 1; the temperature divides the cosines.
    """

    def __init__(self, temperature: float = TEMPERATURE) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, projections: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        """Return the mean over all views, a scalar in float32.

        Parameters
        ----------
        projections : `(views, size)`, of any length
        partner : row of each view's partner, int64 of shape `(views,)`
        """
        # autocast would compute the cosines in half precision
        with torch.autocast(projections.device.type, enabled=False):
            unit = functional.normalize(projections.float())
            logits = unit @ unit.T / self.temperature
            itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
            return functional.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


@dataclass(frozen=True)
class ReconstructionError:
    """Sums over scored voxels for computing mean errors; sums of parts can be added.

    Attributes
    ----------
    voxels : number of scored voxels, channels counted separately
    squared_error : sum of squared differences of reconstruction and image
    absolute_error : sum of absolute differences
    squared_deviation : sum of squared differences of the image and the mean of its patch and channel
    total_squares : sum of the image's squared intensities
    """

    voxels: float = 0.0
    squared_error: float = 0.0
    absolute_error: float = 0.0
    squared_deviation: float = 0.0
    total_squares: float = 0.0

    @classmethod
    def measure(cls, output: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> ReconstructionError:
        """Measure a batch; shapes as in `MaskedMSELoss`."""
        hidden = mask.expand_as(image)
        true = doubled(image[hidden])
        difference = doubled(output[hidden]) - true
        return cls(
            float(true.numel()),
            float(difference.square().sum()),
            float(difference.abs().sum()),
            _squared_deviation(true, hidden),
            float(true.square().sum()),
        )

    def __add__(self, other: ReconstructionError) -> ReconstructionError:
        return ReconstructionError(
            self.voxels + other.voxels,
            self.squared_error + other.squared_error,
            self.absolute_error + other.absolute_error,
            self.squared_deviation + other.squared_deviation,
            self.total_squares + other.total_squares,
        )

    @classmethod
    def sum(cls, parts: Iterable[ReconstructionError]) -> ReconstructionError:
        """Add up the errors of several batches or cases."""
        return sum(parts, cls())

    @property
    def mse(self) -> float:
        """Mean squared error, in squared units of the normalised intensity; NaN without voxels."""
        return self.squared_error / self.voxels if self.voxels else float("nan")

    @property
    def mae(self) -> float:
        """Mean absolute error, in units of the normalised intensity; NaN without voxels."""
        return self.absolute_error / self.voxels if self.voxels else float("nan")

    @property
    def explained_variance(self) -> float:
        """Return 1 - squared error / squared deviation from the mean of the scored voxels of each patch and channel.

        1 is perfect, 0 is as good as the mean intensity of each patch, and negative values are worse. Differences between
        patches or channels don't count: whoever knows the means alone explains nothing. 0 if all patches are constant.
        """
        if not self.voxels:
            return float("nan")
        known = self.squared_deviation > 1e-12 * max(self.total_squares, 1e-12)
        return 1 - self.squared_error / self.squared_deviation if known else 0.0


def _squared_deviation(values: torch.Tensor, scored: torch.Tensor) -> float:
    """Return the sum of squared differences of each value and the mean of its patch and channel.

    Parameters
    ----------
    values : those of the scored voxels, in the order of `scored`
    scored : boolean, `(batch, channel, *spatial)`
    """
    counts = scored.flatten(2).sum(dim=2).flatten().cpu().tolist()
    return float(torch.stack([(own - own.mean()).square().sum() for own in values.split(counts)]).sum())
