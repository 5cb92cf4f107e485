"""The result of converting a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nnunet_transfer.checkpoints.found import Found
from nnunet_transfer.sources import SourceCard

#: of networks that nnU-Net has no class for
NEEDS_PACKAGE = "the network's class is nnunet_transfer's own: training and prediction need this package installed"


@dataclass(frozen=True)
class Converted:
    """A checkpoint in nnU-Net's terms; the fields are those of a source card.

    Attributes
    ----------
    tensors : canonical name -> tensor
    architecture : as in a source card
    notes : differences from the original network, and assumptions
    label_channels : number of last input channels that contain the labels of a cascade's previous stage
    outputs : groups of output names of the segmentation heads, see `sources.outputs`; empty if unknown
    made : names of tensors that the file doesn't hold
    """

    tensors: Mapping[str, torch.Tensor]
    architecture: Mapping[str, Any]
    input_channels: int
    channel_names: tuple[str, ...] = ()
    parts: str = "encoder+decoder"
    normalization_schemes: tuple[str, ...] = ()
    spacing: tuple[float, ...] = ()
    patch_size: tuple[int, ...] = ()
    trained_on: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    notes: tuple[str, ...] = ()
    label_channels: int = 0
    outputs: tuple[tuple[str, ...], ...] = ()
    made: tuple[str, ...] = ()


#: fields that a source card has under the same names
_OF_CARDS = (
    *("architecture", "input_channels", "channel_names", "parts", "normalization_schemes"),
    *("spacing", "patch_size", "trained_on", "citation"),
)


def card_fields(described: Converted | SourceCard) -> dict[str, Any]:
    """Return the fields that converted checkpoints and source cards share."""
    return {name: getattr(described, name) for name in _OF_CARDS}


@dataclass(frozen=True)
class Format:
    """One published layout of weights.

    Attributes
    ----------
    name
        Name in cards and messages.
    recognise
        Function that returns whether a checkpoint has this format, judged by its keys.
    convert
        Function that converts a checkpoint. It raises `CheckpointError` with the reason if the weights don't fit any
        nnU-Net network.
    """

    name: str
    recognise: Callable[[Found], bool]
    convert: Callable[[Found], Converted]
