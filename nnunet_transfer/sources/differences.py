"""What differs between source and target although every tensor may fit: notes for the transfer report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from nnunet_transfer.adaptation.rules import normalised
from nnunet_transfer.adaptation.target import Target
from nnunet_transfer.sources import SourceCard

#: spacings that differ by less, as a factor, are the same to a network
SAME_SPACING = 1.05


def differing_networks(card: SourceCard, network: nn.Module) -> tuple[str, ...]:
    """Return what differs between the networks although all tensors may fit."""
    encoder: Any = getattr(network, "encoder", None)
    kwargs = card.architecture["arch_kwargs"] or {}
    notes = []
    ours, theirs = getattr(encoder, "strides", None), kwargs.get("strides")
    if ours is not None and theirs is not None:
        for stage, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
            other = [other] * len(mine) if isinstance(other, int) else other
            dims = min(len(mine), len(other))
            if list(mine)[-dims:] != list(other)[-dims:]:
                notes.append(f"stride of stage {stage}: {list(other)} in the source, {list(mine)} here")
    nonlin, other_nonlin = getattr(encoder, "nonlin", None), kwargs.get("nonlin")
    if nonlin is not None and other_nonlin and nonlin.__name__ != str(other_nonlin).rsplit(".", 1)[-1]:
        notes.append(f"nonlinearity: {str(other_nonlin).rsplit('.', 1)[-1]} in the source, {nonlin.__name__} here")
    norm, other_norm = getattr(encoder, "norm_op", None), str(kwargs.get("norm_op") or "").rsplit(".", 1)[-1]
    if norm is not None and other_norm and norm.__name__[:-2] != other_norm[:-2]:
        notes.append(f"norm: {other_norm} in the source, {norm.__name__} here")
    return tuple(notes)


def differing_data(card: SourceCard, target: Target) -> tuple[str, ...]:
    """Return what differs between the images that the source was trained on and the target's; what is unknown doesn't."""
    notes = []
    theirs, mine = card.channel_names, target.channel_names
    if theirs and mine and [*map(normalised, theirs)] != [*map(normalised, mine)]:
        notes.append(f"channels: {', '.join(theirs)} in the source, {', '.join(mine)} here")
    theirs, mine = card.normalization_schemes, target.normalization_schemes
    if theirs and mine and set(theirs) != set(mine):
        notes.append(f"normalisation: {_once(theirs)} in the source, {_once(mine)} here")
    if card.spacing and target.spacing and not _similar(card.spacing, target.spacing):
        notes.append(f"spacing: {_sizes(card.spacing)} mm in the source, {_sizes(target.spacing)} mm here")
    if card.patch_size and target.patch_size and tuple(card.patch_size) != tuple(target.patch_size):
        notes.append(f"patch size: {_sizes(card.patch_size)} in the source, {_sizes(target.patch_size)} here")
    return tuple(notes)


def _similar(theirs: Sequence[float], mine: Sequence[float]) -> bool:
    # 2D networks work in the last two axes
    axes = min(len(theirs), len(mine))
    pairs = zip(theirs[-axes:], mine[-axes:], strict=True)
    return all(max(pair) <= SAME_SPACING * min(pair) for pair in pairs)


def _once(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _sizes(values: Sequence[float]) -> str:
    return "×".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values)
