"""Heads by name: the rows of a source's output layers for labels that the target also has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from nnunet_transfer.adaptation.decisions import TRANSFERRED, Decision
from nnunet_transfer.adaptation.parts import decoder_stage, number_of_stages
from nnunet_transfer.finetuning.heads import Rows
from nnunet_transfer.sources import Source
from nnunet_transfer.sources.outputs import Match, match_classes


def matching_outputs(source: Source, names: Sequence[str]) -> Match | None:
    """Match the target's outputs to those of the source by the names in its card; None if none match.

    A background that has more in it than the source's is not matched.

    Parameters
    ----------
    names : names of the target's outputs, in order
    """
    return match_classes(source.card.outputs, names)


def known_rows(
    match: Match,
    weights: Mapping[str, Tensor],
    layers: Sequence[nn.Module],
    stages: int,
    decisions: Iterable[Decision] = (),
) -> dict[int, Rows]:
    """Return the rows to copy for each output layer of the target that the source also has.

    nnU-Net counts output layers from the deepest up; networks of different depth are aligned at full resolution. A layer above
    a kernel of the decoder that starts at random has none: the source's rows mean nothing on other features.

    Parameters
    ----------
    match : from `matching_outputs`
    weights : tensors of the source
    layers : output layers of the target
    stages : number of stages of the target's encoder
    decisions : what was loaded
    """
    shift = stages - number_of_stages(weights)
    random = [
        decoder_stage(d.key) or 0
        for d in decisions
        if d.part == "decoder" and d.status == "initialised" and len(d.target_shape or ()) > 2
    ]
    found = {}
    for i, layer in enumerate(layers[: min(random, default=None)]):
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


def with_copied_outputs(decisions: Iterable[Decision], copied: Mapping[int, Sequence[str]]) -> tuple[Decision, ...]:
    """Return decisions that also say which outputs are the source's.

    Parameters
    ----------
    copied : output layer -> names of the outputs copied from the source
    """
    told = []
    for d in decisions:
        names = copied.get(decoder_stage(d.key) or 0, ()) if d.part == "head" and d.target_shape else ()
        if names and d.target_shape:
            moved = d.parameters // d.target_shape[0] * len(names)
            d = replace(d, status="adapted", reason=f"outputs by name: {', '.join(names)}", transferred=moved)
        told.append(d)
    used = {d.source_key for d in told if d.status in TRANSFERRED}
    return tuple(d for d in told if d.status != "unused" or d.source_key not in used)
