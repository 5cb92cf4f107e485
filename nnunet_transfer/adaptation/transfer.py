"""Load a source's weights into a network: decide, check, then write in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_transfer.adaptation.decisions import (
    SCOPES,
    TRANSFERRED,
    Decision,
    Scope,
    coverage,
    decide,
    new_channels,
)
from nnunet_transfer.adaptation.input_channels import InputChannels
from nnunet_transfer.adaptation.parts import family_of
from nnunet_transfer.adaptation.report import TransferReport
from nnunet_transfer.adaptation.steps import AdaptationRules, apply_steps
from nnunet_transfer.errors import AdaptationError, SettingsError
from nnunet_transfer.sources import Source, SourceCard
from nnunet_transfer.sources.differences import differences
from nnunet_transfer.sources.keys import canonical
from nnunet_transfer.sources.leakage import leakage_warnings
from nnunet_transfer.sources.learning import learning_warnings
from nnunet_transfer.sources.target import Target


def transfer_weights(
    network: nn.Module,
    source: Source,
    *,
    scope: Scope = "encoder+decoder",
    minimum_encoder: float = 0.9,
    rules: AdaptationRules | None = None,
    target: Target | None = None,
) -> TransferReport:
    """Load a source into a network, in place.

    Everything is decided and checked before the first value is written, so the network is unchanged after an error. nnU-Net's
    aliases share storage with the tensors written here.

    Parameters
    ----------
    network : nnU-Net's `PlainConvUNet` or `ResidualEncoderUNet`, or one of `networks`, on any device
    source : the source
    scope : what to load; segmentation heads are never loaded, as in nnU-Net
    minimum_encoder : smallest share of the encoder's parameters, including the stem, that must load
    rules : rules to use where several are possible
    target : images that the network will read, to match image channels by name and to note differences

    Raises
    ------
    AdaptationError
        If the encoders belong to different families, or less than `minimum_encoder` fits.
    """
    if scope not in SCOPES:
        raise SettingsError(f"unknown scope '{scope}'; there are: {', '.join(SCOPES)}")
    target, rules = target or Target(), rules or AdaptationRules()
    names = InputChannels(
        source.card.channel_names, target.channel_names, source.card.label_channels, target.label_channels
    )
    weights = source.tensors()
    own = canonical({**dict(network.named_parameters()), **dict(network.named_buffers())})
    _check_families(source.card, weights, own)
    decisions = decide(
        {k: tuple(t.shape) for k, t in weights.items()},
        {k: tuple(t.shape) for k, t in own.items()},
        scope=scope,
        rules=rules,
        names=names,
    )
    fractions = coverage(decisions)
    if fractions.get("encoder", 0.0) < minimum_encoder:
        raise AdaptationError(_too_little(source.card, decisions, fractions.get("encoder", 0.0), minimum_encoder))
    with torch.no_grad():
        for decision in decisions:
            if decision.status in TRANSFERRED and decision.source_key is not None:
                mine = own[decision.key]
                # convert half precision and move it to the target's device before mixing with initialised values
                tensor = weights[decision.source_key].to(mine) if decision.steps else weights[decision.source_key]
                mine.copy_(apply_steps(tensor, mine, decision.steps))
    new, at_zero = new_channels(decisions, names)
    if rules.new_channels == "zero":
        new, at_zero = (), (*new, *at_zero)
    return TransferReport(
        source=source.card,
        scope=scope,
        minimum_encoder=minimum_encoder,
        decisions=decisions,
        coverage=fractions,
        channels_at_zero=at_zero,
        channels_guessed=new,
        notes=differences(source.card, _settings(network), target),
        warnings=(
            *(leakage_warnings(source.card, target.dataset) if target.dataset else ()),
            *learning_warnings(source.card),
            *([f"input channels that the source has nothing for start at 0: {_listed(at_zero)}"] if at_zero else ()),
            *(
                [f"input channels that the source doesn't have start with the mean of its own: {_listed(new)}"]
                if new
                else ()
            ),
        ),
    )


def _check_families(card: SourceCard, weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    theirs, ours = family_of(weights), family_of(own)
    if ours is None:
        raise AdaptationError("the target's network has no nnU-Net encoder; plan the target with a CNN profile")
    if theirs != ours:
        raise AdaptationError(
            f"source {card.name} has {f'a {theirs}' if theirs else 'no nnU-Net encoder'}, the network a {ours}; "
            f"plan the target with `nnunet_transfer plan --source {card.name}`"
        )


def _settings(network: nn.Module) -> dict[str, Any]:
    """Return the layer settings of an nnU-Net encoder, with the names used in plans."""
    encoder = getattr(network, "encoder", None)
    found = {key: getattr(encoder, key, None) for key in ("strides", "nonlin", "norm_op")}
    return {key: value.__name__ if isinstance(value, type) else value for key, value in found.items()}


def _too_little(card: SourceCard, decisions: Sequence[Decision], found: float, minimum: float) -> str:
    missed: Counter[str] = Counter()
    example: dict[str, str] = {}
    for d in decisions:
        if d.part in ("stem", "encoder") and d.transferred < d.parameters:
            reason = d.reason or f"only some of the values: {', '.join(map(str, d.steps))}"
            missed[reason] += d.parameters - d.transferred
            example.setdefault(reason, d.key)
    reasons = "; ".join(f"{example[reason]}: {reason}" for reason, _ in missed.most_common(2))
    return (
        f"only {found:.1%} of the encoder's parameters fit from source {card.name}, {minimum:.0%} are needed "
        f"({reasons}); plan the target with `nnunet_transfer plan --source {card.name}`"
    )


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
