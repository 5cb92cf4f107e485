"""Properties of the target's images that a transfer depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_transfer.channels import channel_names


@dataclass(frozen=True)
class Target:
    """The target's images; empty fields are unknown and ignored.

    Attributes
    ----------
    dataset : name of the data set, to warn if the source has seen its subjects
    channel_names : names of the image channels, in order
    label_channels : names of the channels after the image channels: the second stage of a cascade reads the labels of the
        first stage, one channel with values 0 or 1 per label
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
        """Return the target described by a configuration of nnU-Net's plans, including inherited settings."""
        return cls(
            dataset=dataset,
            channel_names=channel_names(dataset_json),
            label_channels=label_channels,
            normalization_schemes=tuple(configuration["normalization_schemes"]),
            spacing=tuple(float(v) for v in configuration["spacing"]),
            patch_size=tuple(int(v) for v in configuration["patch_size"]),
        )
