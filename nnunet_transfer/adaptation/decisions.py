"""Decide what happens to every tensor, from names and shapes only. Nothing is read or written here.

The decisions are therefore the same on every rank of a distributed training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nnunet_transfer.adaptation.input_channels import InputChannels
from nnunet_transfer.adaptation.parts import (
    input_shares,
    is_input_convolution,
    is_transposed,
    number_of_stages,
    part_of,
    shift_decoder_stage,
    taps_overlap,
)
from nnunet_transfer.adaptation.steps import (
    BATCHNORM_TO_INSTANCENORM,
    AdaptationRules,
    MisfitError,
    Role,
    Shape,
    Step,
    fit_steps,
)
from nnunet_transfer.sources.keys import is_statistic

Scope = Literal["encoder", "encoder+decoder"]
Status = Literal["loaded", "adapted", "initialised", "unused"]
SCOPES: tuple[Scope, ...] = ("encoder", "encoder+decoder")
TRANSFERRED: tuple[Status, ...] = ("loaded", "adapted")


@dataclass(frozen=True)
class Decision:
    """The decision on one tensor.

    Attributes
    ----------
    key : canonical name in the target; in the source for an unused tensor
    source_key : canonical name in the source; `None` if it has no such tensor
    part : `stem`, `encoder`, `decoder`, `head` or `other`
    status : `loaded` unchanged, `adapted` by `steps`, left as `initialised`, or `unused`
    steps : adaptations in order
    reason : why the tensor was not loaded, or which outputs of a head were copied by name
    source_shape, target_shape : `None` if there is no such tensor
    parameters : number of learned values; 0 for running statistics
    transferred : number of values that come from the source
    """

    key: str
    source_key: str | None
    part: str
    status: Status
    steps: tuple[Step, ...]
    reason: str
    source_shape: Shape | None
    target_shape: Shape | None
    parameters: int
    transferred: int = 0


@dataclass(frozen=True)
class _Problem:
    source: Mapping[str, Shape]
    target: Mapping[str, Shape]
    scope: Scope
    rules: AdaptationRules
    names: InputChannels
    has_decoder: bool = field(init=False)
    shift: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_decoder", any(part_of(k) == "decoder" for k in self.source))
        object.__setattr__(self, "shift", number_of_stages(self.target) - number_of_stages(self.source))


def decide(
    source: Mapping[str, Shape],
    target: Mapping[str, Shape],
    *,
    scope: Scope = "encoder+decoder",
    rules: AdaptationRules | None = None,
    names: InputChannels | None = None,
) -> tuple[Decision, ...]:
    """Return a decision for every tensor of the target, followed by the unused tensors of the source.

    Parameters
    ----------
    source, target : canonical name -> shape
    scope : what to load
    rules : rules to use where several are possible
    names : input channels, to match image channels by name
    """
    problem = _Problem(source, target, scope, rules or AdaptationRules(), names or InputChannels())
    decisions = [_for_target(key, problem) for key in target]
    used = {d.source_key for d in decisions if d.status in TRANSFERRED}
    why = {d.source_key: d.reason for d in decisions if d.source_key is not None}
    decisions += [_unused(key, why.get(key), problem) for key in source if key not in used]
    return tuple(decisions)


def _for_target(key: str, problem: _Problem) -> Decision:
    part = part_of(key) or "other"
    shape = problem.target[key]
    source_key = shift_decoder_stage(key, -problem.shift)
    source_shape = problem.source.get(source_key) if source_key is not None else None
    if source_shape is None:
        source_key = None
    steps: tuple[Step, ...] = ()
    reason = _why_left(part, problem)
    if not reason and (source_key is None or source_shape is None):
        reason = "the source has no such tensor"
    elif not reason and source_key is not None and source_shape is not None:
        try:
            role = Role(is_input_convolution(key), is_transposed(key), input_shares(key), taps_overlap(key))
            steps = fit_steps(source_shape, shape, rules=problem.rules, names=problem.names, role=role)
        except MisfitError as misfit:
            reason = str(misfit)
        if _running_mean(source_key) in problem.source and _running_mean(key) not in problem.target:
            steps = (*steps, BATCHNORM_TO_INSTANCENORM)
    status: Status = "initialised" if reason else "adapted" if steps else "loaded"
    parameters = 0 if is_statistic(key) else math.prod(shape)
    transferred = 0 if reason else min([parameters, *(step.kept for step in steps if step.kept is not None)])
    steps = () if reason else steps
    return Decision(key, source_key, part, status, steps, reason, source_shape, shape, parameters, transferred)


def _why_left(part: str, problem: _Problem) -> str:
    """Return why nothing of this part may be loaded; empty if it may be."""
    reasons = {
        "other": "no part of the U-Net",
        "head": "segmentation heads belong to the source's labels",
        "decoder": "only the encoder was asked for"
        if problem.scope == "encoder"
        else "the source has only an encoder"
        if not problem.has_decoder
        else "",
    }
    return reasons.get(part, "")


def _unused(key: str, why: str | None, problem: _Problem) -> Decision:
    part = part_of(key) or "other"
    shape = problem.source[key]
    if is_statistic(key):
        reason = "the target's norm keeps no running statistics"
    else:
        reason = why or _why_left(part, problem) or "the target has no such tensor"
    parameters = 0 if is_statistic(key) else math.prod(shape)
    return Decision(key, key, part, "unused", (), reason, shape, None, parameters)


def _running_mean(key: str) -> str:
    return f"{key.rsplit('.', 1)[0]}.running_mean"


def new_channels(decisions: Sequence[Decision], names: InputChannels) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the image channels and label channels without weights in the source.

    Both are empty if the first convolution was not loaded.
    """
    for d in decisions:
        if is_input_convolution(d.key) and d.status in TRANSFERRED and d.source_shape and d.target_shape:
            return names.new(d.source_shape[1], d.target_shape[1]), names.labels
    return (), ()


def coverage(decisions: Sequence[Decision]) -> dict[str, float]:
    """Return the fraction of the target's learned parameters that were transferred, by part.

    Running statistics don't count. `encoder` includes the stem; `decoder` excludes the segmentation heads.
    """
    fractions = {}
    for name, parts in (("stem", ("stem",)), ("encoder", ("stem", "encoder")), ("decoder", ("decoder",))):
        of_part = [d for d in decisions if d.part in parts and d.target_shape is not None]
        total = sum(d.parameters for d in of_part)
        if total:
            fractions[name] = sum(d.transferred for d in of_part) / total
    return fractions
