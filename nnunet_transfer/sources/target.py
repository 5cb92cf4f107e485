"""What the network to be trained reads, as far as a transfer depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_transfer.channels import channel_names


@dataclass(frozen=True)
class Target:
    """The target's data; what is empty is unknown and neither used nor compared.

    Attributes
    ----------
    dataset : its name, to warn where the source has seen some of its subjects
    channel_names : of the image channels, in order
    label_channels : names of the channels behind them: the second stage of a cascade reads the first one's labels, one
        channel per label, 0 or 1
    normalization_schemes : nnU-Net's names, one per image channel
    spacing : mm, in the order of the tensor axes
    patch_size : voxels, in the order of the tensor axes
    """

    dataset: str = ""
    channel_names: tuple[str, ...] = ()
    label_channels: tuple[str, ...] = ()
    normalization_schemes: tuple[str, ...] = ()
    spacing: tuple[float, ...] = ()
    patch_size: tuple[int, ...] = ()

    @classmethod
    def of_plans(
        cls,
        dataset: str,
        configuration: Mapping[str, Any],
        dataset_json: Mapping[str, Any],
        label_channels: tuple[str, ...] = (),
    ) -> Target:
        """Return what a configuration of nnU-Net's plans, with all that it inherits, says of a data set's images."""
        return cls(
            dataset=dataset,
            channel_names=channel_names(dataset_json),
            label_channels=label_channels,
            normalization_schemes=tuple(configuration["normalization_schemes"]),
            spacing=tuple(float(v) for v in configuration["spacing"]),
            patch_size=tuple(int(v) for v in configuration["patch_size"]),
        )
