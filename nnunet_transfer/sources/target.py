"""What the network to be trained reads, as far as a transfer depends on it."""

from __future__ import annotations

from dataclasses import dataclass


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
