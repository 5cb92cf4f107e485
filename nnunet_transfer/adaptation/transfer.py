"""Put a source's weights into a network: decide, check, then write in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.adaptation.decisions import SCOPES, TRANSFERRED, Decision, Scope, coverage, decide
from nnunet_transfer.adaptation.parts import family_of
from nnunet_transfer.adaptation.report import TransferReport
from nnunet_transfer.adaptation.steps import AdaptationRules, ChannelNames, apply_steps
from nnunet_transfer.errors import AdaptationError, SettingsError
from nnunet_transfer.sources import Source, SourceCard
from nnunet_transfer.sources.keys import canonical
from nnunet_transfer.sources.leakage import leakage_warnings
from nnunet_transfer.sources.learning import learning_warnings


def transfer_weights(
    network: nn.Module,
    source: Source,
    *,
    scope: Scope = "encoder+decoder",
    minimum_encoder: float = 0.9,
    channel_names: Sequence[str] | None = None,
    rules: AdaptationRules | None = None,
    target_dataset: str | None = None,
) -> TransferReport:
    """Load a source into a network, in place.

    Everything is decided and checked before the first value is written: on an error the network is as it was.
    nnU-Net's aliases share storage with the tensors written here.

    Parameters
    ----------
    network : nnU-Net's `PlainConvUNet` or `ResidualEncoderUNet`, or one of `networks`, on any device
    source : where the weights come from
    scope : what to load; segmentation heads are never loaded, as in nnU-Net
    minimum_encoder : smallest fraction of the encoder's parameters, stem included, that must be loaded
    channel_names : the target's input channels, to match them with the source's by name
    rules : which adaptation is used where several are sensible
    target_dataset : its name, to warn where the source has seen some of its subjects

    Raises
    ------
    AdaptationError
        If encoders of two families would be mixed, or less than `minimum_encoder` fits.
    """
    if scope not in SCOPES:
        raise SettingsError(f"unknown scope '{scope}'; there are: {', '.join(SCOPES)}")
    weights = source.tensors()
    own = canonical({**dict(network.named_parameters()), **dict(network.named_buffers())})
    _check_families(source.card, weights, own)
    decisions = decide(
        {k: tuple(t.shape) for k, t in weights.items()},
        {k: tuple(t.shape) for k, t in own.items()},
        scope=scope,
        rules=rules,
        names=ChannelNames(source.card.channel_names, tuple(channel_names or ())),
    )
    fractions = coverage(decisions)
    if fractions.get("encoder", 0.0) < minimum_encoder:
        raise AdaptationError(_too_little(source.card, decisions, fractions.get("encoder", 0.0), minimum_encoder))
    with torch.no_grad():
        for decision in decisions:
            if decision.status in TRANSFERRED and decision.source_key is not None:
                target = own[decision.key]
                # half precision is widened and brought to the target's device before it is mixed with fresh values
                tensor = weights[decision.source_key].to(target) if decision.steps else weights[decision.source_key]
                target.copy_(apply_steps(tensor, target, decision.steps))
    return TransferReport(
        source=source.card,
        scope=scope,
        minimum_encoder=minimum_encoder,
        decisions=decisions,
        coverage=fractions,
        notes=_differences(source.card, network),
        warnings=(
            *(leakage_warnings(source.card, target_dataset) if target_dataset else ()),
            *learning_warnings(source.card),
        ),
    )


def _check_families(card: SourceCard, weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    theirs, ours = family_of(weights), family_of(own)
    if ours is None:
        raise AdaptationError("the network to be trained has no encoder of nnU-Net's; plan it with a CNN profile")
    if theirs != ours:
        raise AdaptationError(
            f"source {card.name} has {f'a {theirs}' if theirs else 'no encoder of nnU-Net'}, the network a {ours}; "
            f"plan the target with `nnunet_transfer plan --source {card.name}`"
        )


def _too_little(card: SourceCard, decisions: Sequence[Decision], found: float, minimum: float) -> str:
    missed: Counter[str] = Counter()
    example: dict[str, str] = {}
    for d in decisions:
        if d.part in ("stem", "encoder") and d.transferred < d.parameters:
            reason = d.reason or "only some of the values, by the rule for widths"
            missed[reason] += d.parameters - d.transferred
            example.setdefault(reason, d.key)
    reasons = "; ".join(f"{example[reason]}: {reason}" for reason, _ in missed.most_common(2))
    return (
        f"only {found:.1%} of the encoder's parameters fit from source {card.name}, {minimum:.0%} are needed "
        f"({reasons}); plan the target with `nnunet_transfer plan --source {card.name}`"
    )


def _differences(card: SourceCard, network: nn.Module) -> tuple[str, ...]:
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
