"""Heads by name: the rows of a source's output layers for labels that the target also has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nnunet_transfer.adaptation.parts import number_of_stages
from nnunet_transfer.finetuning.heads import Rows
from nnunet_transfer.sources import Source
from nnunet_transfer.sources.outputs import Match, match_outputs


def matching_outputs(source: Source, names: Sequence[str]) -> Match | None:
    """Match the target's outputs to those of the source by the names in its card; None if none match.

    Parameters
    ----------
    names : names of the target's outputs, in order
    """
    return match_outputs(source.card.outputs, names)


def known_rows(
    match: Match, weights: Mapping[str, Tensor], layers: Sequence[nn.Module], stages: int
) -> dict[int, Rows]:
    """Return the rows to copy for each output layer of the target that the source also has.

    nnU-Net counts output layers from the deepest up; networks of different depth are aligned at full resolution.

    Parameters
    ----------
    match : from `matching_outputs`
    weights : tensors of the source
    layers : output layers of the target
    stages : number of stages of the target's encoder
    """
    shift = stages - number_of_stages(weights)
    found = {}
    for i, layer in enumerate(layers):
        weight = weights.get(f"decoder.seg_layers.{i - shift}.weight")
        bias = weights.get(f"decoder.seg_layers.{i - shift}.bias")
        own = layer.get_parameter("weight")
        if weight is None or bias is None or weight.ndim < 3 or weight.shape[1] != own.shape[1]:
            continue
        rows = torch.tensor(list(match.indices.values()))
        if weight.shape[2:].numel() == 1 and int(rows.max()) < len(weight) == len(bias):
            kept = weight.flatten(1)[rows].to(own), bias[rows].to(own)
            found[i] = Rows(tuple(match.indices), *kept)
    return found
