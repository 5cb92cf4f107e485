"""Differences between source and target that tensors don't show: notes for plans and transfer reports. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnunet_transfer.channels import comparable
from nnunet_transfer.sources.card import SourceCard
from nnunet_transfer.sources.target import Target

#: spacings that differ by a smaller factor count as equal
SAME_SPACING = 1.05


def differences(card: SourceCard, arch_kwargs: Mapping[str, Any], target: Target) -> tuple[str, ...]:
    """Return one sentence per difference between a source and the network to train; unknown values don't count.

    Parameters
    ----------
    arch_kwargs : `strides`, `nonlin` and `norm_op` of the network to train, with classes by name
    target : the images that the network reads
    """
    return (*_of_networks(card.architecture["arch_kwargs"] or {}, arch_kwargs), *_of_data(card, target))


def _of_networks(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    strides = [kwargs.get("strides") for kwargs in (theirs, mine)]
    if all(isinstance(found, Sequence) for found in strides):
        for stage, pair in enumerate(zip(*strides, strict=False)):
            axes = min((len(stride) for stride in pair if not isinstance(stride, int)), default=1)
            other, own = ([stride] * axes if isinstance(stride, int) else list(stride) for stride in pair)
            if other[-axes:] != own[-axes:]:
                yield f"stride of stage {stage}: {other} in the source, {own} here"
    nonlins, norms = ([_class(kwargs.get(key)) for kwargs in (theirs, mine)] for key in ("nonlin", "norm_op"))
    if all(nonlins) and nonlins[0] != nonlins[1]:
        yield f"nonlinearity: {nonlins[0]} in the source, {nonlins[1]} here"
    # 2D and 3D are the same kind
    if all(norms) and norms[0][:-2] != norms[1][:-2]:
        yield f"norm: {norms[0]} in the source, {norms[1]} here"


def _of_data(card: SourceCard, target: Target) -> Iterator[str]:
    theirs, mine = card.channel_names, target.channel_names
    if theirs and mine and [*map(comparable, theirs)] != [*map(comparable, mine)]:
        yield f"channels: {', '.join(theirs)} in the source, {', '.join(mine)} here"
    theirs, mine = card.normalization_schemes, target.normalization_schemes
    if theirs and mine and set(theirs) != set(mine):
        yield f"normalisation: {_once(theirs)} in the source, {_once(mine)} here"
    if card.spacing and target.spacing and not _similar(card.spacing, target.spacing):
        yield f"spacing: {_sizes(card.spacing)} mm in the source, {_sizes(target.spacing)} mm here"
    if card.patch_size and target.patch_size and tuple(card.patch_size) != tuple(target.patch_size):
        yield f"patch size: {_sizes(card.patch_size)} in the source, {_sizes(target.patch_size)} here"


def _class(name: Any) -> str:
    return str(name or "").rsplit(".", 1)[-1]


def _similar(theirs: Sequence[float], mine: Sequence[float]) -> bool:
    # 2D networks use the last two axes
    axes = min(len(theirs), len(mine))
    pairs = zip(theirs[-axes:], mine[-axes:], strict=True)
    return all(max(pair) <= SAME_SPACING * min(pair) for pair in pairs)


def _once(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _sizes(values: Sequence[float]) -> str:
    return "×".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values)
