"""The adaptations of one tensor as data: chosen from shapes, applied to tensors later."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from nnunet_transfer.adaptation.input_channels import InputChannels
from nnunet_transfer.adaptation.rules import (
    INFLATION_RULES,
    INPUT_CHANNEL_RULES,
    KERNEL_RULES,
    NEW_CHANNEL_RULES,
    OVERLAPPING_KERNEL,
    OVERLAPPING_STRIDE,
    WIDTH_RULES,
    by_channel_name,
    checked_rule,
    fit_kernel,
    fit_transposed_kernel,
    fit_widths,
    inflate_overlapping,
    with_zero_channels,
)

Shape = tuple[int, ...]


class MisfitError(Exception):
    """A tensor can't be adapted; the message states the reason."""


@dataclass(frozen=True)
class AdaptationRules:
    """The rules to use where several are possible; the defaults keep the response to constant input.

    Attributes
    ----------
    input_channels : one of `INPUT_CHANNEL_RULES`; not used if channels are matched by name
    new_channels : one of `NEW_CHANNEL_RULES`; for channels that the source doesn't have, if channels are matched by name
    inflation : 2D to 3D, one of `INFLATION_RULES`
    kernel : other kernel sizes, one of `KERNEL_RULES`
    widths : other numbers of channels inside the network, one of `WIDTH_RULES`
    """

    input_channels: str = "mean"
    new_channels: str = "mean"
    inflation: str = "mean"
    kernel: str = "sum"
    widths: str = "refuse"

    def __post_init__(self) -> None:
        checked_rule("input channels", self.input_channels, INPUT_CHANNEL_RULES)
        checked_rule("new channels", self.new_channels, NEW_CHANNEL_RULES)
        checked_rule("2D to 3D", self.inflation, INFLATION_RULES)
        checked_rule("kernel sizes", self.kernel, KERNEL_RULES)
        checked_rule("widths", self.widths, WIDTH_RULES)


@dataclass(frozen=True)
class Role:
    """The role of a tensor in the network, which its adaptation depends on.

    Attributes
    ----------
    reads_image : whether it is the weight of the first convolution, whose input channels may change
    transposed : whether it is the weight of a transposed convolution `(in, out, *kernel)`
    input_shares : numbers of input channels from each input; two after a skip connection
    overlapping : whether the kernel of a transposed convolution is larger than its stride
    """

    reads_image: bool = False
    transposed: bool = False
    input_shares: tuple[int, ...] = (1,)
    overlapping: bool = False


@dataclass(frozen=True)
class Step:
    """One adaptation of one tensor.

    Attributes
    ----------
    kind : a key of `STEPS`
    rule : the rule's name
    argument : argument of the rule besides the tensor
    description : text for the report
    kept : number of values of the target that come from the source; `None` if all do
    """

    kind: str
    rule: str
    argument: Any
    description: str
    kept: int | None = None

    def __str__(self) -> str:
        return f"{self.description} ({self.rule})"


#: kind -> function of the tensor, the target's initialised tensor, and the step
STEPS: dict[str, Callable[[Tensor, Tensor, Step], Tensor]] = {
    "input channels": lambda w, own, s: INPUT_CHANNEL_RULES[s.rule](w, s.argument),
    "image channels": lambda w, own, s: w[:, : s.argument],
    "label channels": lambda w, own, s: with_zero_channels(w, s.argument),
    "channel names": lambda w, own, s: by_channel_name(w, *s.argument),
    "inflate": lambda w, own, s: INFLATION_RULES[s.rule](w, s.argument),
    "flatten": lambda w, own, s: w.sum(2),
    "kernel": lambda w, own, s: fit_kernel(w, s.argument, s.rule),
    "inflate transposed": lambda w, own, s: fit_transposed_kernel(w.unsqueeze(2), s.argument),
    "flatten transposed": lambda w, own, s: w.mean(2),
    "transposed kernel": lambda w, own, s: fit_transposed_kernel(w, s.argument),
    "inflate overlapping": lambda w, own, s: inflate_overlapping(w),
    "flatten overlapping": lambda w, own, s: w.sum(2) / OVERLAPPING_STRIDE,
    "widths": lambda w, own, s: fit_widths(w, own, s.rule, s.argument.input_shares, s.argument.transposed),
    "norm": lambda w, own, s: w,
}

#: note on the affine parameters of a norm whose running statistics the target doesn't have
BATCHNORM_TO_INSTANCENORM = Step("norm", "affine part kept, running statistics dropped", None, "BatchNorm→InstanceNorm")


def apply_steps(tensor: Tensor, own: Tensor, steps: Sequence[Step]) -> Tensor:
    """Return `tensor` after all `steps`; `own` is the target's initialised tensor, which doesn't change."""
    for step in steps:
        tensor = STEPS[step.kind](tensor, own, step)
    return tensor


def fit_steps(
    source: Shape, target: Shape, *, rules: AdaptationRules, names: InputChannels, role: Role
) -> tuple[Step, ...]:
    """Return the steps that turn a tensor of shape `source` into one of shape `target`.

    Raises
    ------
    MisfitError
        If the shapes can't be adapted.
    """
    if len(source) < 3 or len(target) < 3:
        return tuple(_width_steps(source, target, rules, role))
    if abs(len(source) - len(target)) > 1:
        raise MisfitError(f"{len(source) - 2} spatial axes in the source, {len(target) - 2} in the target")
    steps: list[Step] = []
    channels = source[:2]
    if role.reads_image:
        steps += _channel_steps(source[1], target, rules, names)
        channels = (source[0], target[1])
    if role.transposed and role.overlapping:
        fit = _overlapping_steps(source[2:], target[2:])
    elif role.transposed:
        fit = _transposed_steps(source[2:], target[2:])
    else:
        fit = _kernel_steps(source[2:], target[2:], rules)
    widths = _width_steps((*channels, *target[2:]), target, rules, role)
    return (*steps, *fit, *(_of_known_channels(step, steps, target) for step in widths))


def _of_known_channels(widths: Step, channels: Sequence[Step], target: Shape) -> Step:
    """Return the step for other widths, counting what it keeps of the input channels that the source has."""
    kept = [step.kept for step in channels if step.kept is not None]
    if widths.kept is None or not kept:
        return widths
    return replace(widths, kept=widths.kept * min(kept) // math.prod(target))


def _width_steps(source: Shape, target: Shape, rules: AdaptationRules, role: Role) -> list[Step]:
    if source == target:
        return []
    before, after = source[:2], target[:2]
    parts = sum(role.input_shares)
    fits = len(source) == len(target) != 0 and (len(source) == 1 or (source[1] % parts == 0 == target[1] % parts))
    if WIDTH_RULES[rules.widths] is None or not fits:
        raise MisfitError(f"width {_sizes(before)} in the source, {_sizes(after)} in the target")
    kept = math.prod(min(a, b) for a, b in zip(source, target, strict=True))
    return [Step("widths", rules.widths, role, f"width {_sizes(before)}→{_sizes(after)}", kept)]


def _channel_steps(before: int, target: Shape, rules: AdaptationRules, names: InputChannels) -> list[Step]:
    after = target[1]
    images_before, images_after = names.images(before, after)
    if images_before < 1 or images_after < 1:
        raise MisfitError(f"{before} input channels in the source, {after} in the target, of which too many are labels")
    new = names.new(before, after)
    # a guess doesn't count as loaded
    kept = math.prod(target) // after * (after - len(new) - len(names.labels))
    text = f"input channels {images_before}→{images_after}"
    steps = []
    if images_before != before:
        steps.append(Step("image channels", "dropped", images_before, f"label channels {before - images_before}→0"))
    if names.match(images_before, images_after):
        steps.append(Step("channel names", "by name", (names.source, names.target, rules.new_channels), text, kept))
    elif images_before != images_after:
        steps.append(Step("input channels", rules.input_channels, images_after, text))
    if images_after != after:
        steps.append(Step("label channels", "start at 0", after, f"label channels 0→{after - images_after}", kept))
    return steps


def _kernel_steps(source: Shape, target: Shape, rules: AdaptationRules) -> list[Step]:
    steps = []
    if len(source) > len(target):
        # sum over the first axis, which is exact for an image that is constant along it
        steps.append(Step("flatten", "sum", None, "3D→2D"))
        source = source[1:]
    if source != target[-len(source) :]:
        text = f"kernel {_sizes(source)}→{_sizes(target[-len(source) :])}"
        steps.append(Step("kernel", rules.kernel, target[-len(source) :], text))
    if len(source) < len(target):
        steps.append(Step("inflate", rules.inflation, target[0], "2D→3D"))
    return steps


def _transposed_steps(source: Shape, target: Shape) -> list[Step]:
    steps = []
    if len(source) < len(target):
        # kernel = stride, so each output voxel reads one tap: use the same weights at each position of the new axis
        return [Step("inflate transposed", "same at each position", target, "2D→3D")]
    if len(source) > len(target):
        steps.append(Step("flatten transposed", "mean", None, "3D→2D"))
        source = source[1:]
    if source != target:
        steps.append(Step("transposed kernel", "mean", target, f"kernel {_sizes(source)}→{_sizes(target)}"))
    return steps


def _overlapping_steps(source: Shape, target: Shape) -> list[Step]:
    common = min(len(source), len(target))
    if source[-common:] != target[-common:] or ({*source, *target} - {OVERLAPPING_KERNEL} and source != target):
        raise MisfitError(f"transposed kernel {_sizes(source)} in the source, {_sizes(target)} in the target")
    if len(source) < len(target):
        return [Step("inflate overlapping", "same sum at each position", None, "2D→3D")]
    if len(source) > len(target):
        return [Step("flatten overlapping", "mean over positions", None, "3D→2D")]
    return []


def _sizes(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
