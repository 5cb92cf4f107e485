"""Adapt a tensor to another shape. Pure functions on tensors, with one table per kind of change.

Shapes are torch's: convolutions `(out, in, *kernel)`, transposed convolutions `(in, out, *kernel)`, kernel axes in the
order of the image axes. From 2D to 3D, the new axis is the first kernel axis, because nnU-Net's 2D
configuration slices along the first image axis.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from nnunet_transfer.channels import comparable, is_name
from nnunet_transfer.errors import SettingsError


def _channels_mean(weight: Tensor, n: int) -> Tensor:
    """Give each of `n` channels the mean weight, scaled by (channels before / n)."""
    return (weight.sum(1, keepdim=True) / n).expand(-1, n, *weight.shape[2:])


def _channels_sum(weight: Tensor, n: int) -> Tensor:
    """Give each of `n` channels the sum of all weights."""
    return weight.sum(1, keepdim=True).expand(-1, n, *weight.shape[2:])


def _channels_repeat(weight: Tensor, n: int) -> Tensor:
    """Distribute the channels cyclically over `n`; a channel used k times is divided by k."""
    before = weight.shape[1]
    result = weight.new_zeros((weight.shape[0], n, *weight.shape[2:]))
    for i in range(max(before, n)):
        share = len(range(i % before, max(before, n), before))
        result[:, i % n] += weight[:, i % before] / share
    return result


#: `mean` and `repeat` keep the response to an image with equal channels; so does `sum` for a single channel
INPUT_CHANNEL_RULES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": _channels_mean,
    "sum": _channels_sum,
    "repeat": _channels_repeat,
}


def _inflate_mean(weight: Tensor, depth: int) -> Tensor:
    """Put `weight / depth` at each position of the new axis."""
    return (weight / depth).unsqueeze(2).expand(*weight.shape[:2], depth, *weight.shape[2:])


def _inflate_centre(weight: Tensor, depth: int) -> Tensor:
    """Put `weight` at the centre of the new axis and 0 elsewhere."""
    result = weight.new_zeros((*weight.shape[:2], depth, *weight.shape[2:]))
    result[:, :, depth // 2] = weight
    return result


#: both keep the response to an image that is constant along the new axis
INFLATION_RULES: dict[str, Callable[[Tensor, int], Tensor]] = {"mean": _inflate_mean, "centre": _inflate_centre}


def _kernel_sum(weight: Tensor, axis: int, size: int) -> Tensor:
    """Fit one kernel axis: add the taps beyond the new border to the border tap, or pad with 0."""
    before = weight.shape[axis]
    if size >= before:
        return _padded(weight, axis, size)
    first = (before - size) // 2
    result = weight.narrow(axis, first, size).clone()
    result.select(axis, 0).add_(weight.narrow(axis, 0, first).sum(axis))
    last = first + size
    result.select(axis, size - 1).add_(weight.narrow(axis, last, before - last).sum(axis))
    return result


def _kernel_mean(weight: Tensor, axis: int, size: int) -> Tensor:
    """Fit one kernel axis like `sum`, then scale by (taps after / taps before) when it shrinks."""
    before = weight.shape[axis]
    fitted = _kernel_sum(weight, axis, size)
    return fitted if size >= before else fitted * (size / before)


def _padded(weight: Tensor, axis: int, size: int) -> Tensor:
    shape = list(weight.shape)
    shape[axis] = size
    result = weight.new_zeros(shape)
    result.narrow(axis, (size - weight.shape[axis]) // 2, weight.shape[axis]).copy_(weight)
    return result


#: `sum` keeps the response to an image that is constant along the axis; growing keeps the function itself
KERNEL_RULES: dict[str, Callable[[Tensor, int, int], Tensor]] = {"sum": _kernel_sum, "mean": _kernel_mean}


def fit_kernel(weight: Tensor, kernel: Sequence[int], rule: str) -> Tensor:
    """Return `weight (out, in, *k)` with kernel sizes `kernel`, one axis after the other."""
    for axis, size in enumerate(kernel, start=2):
        if weight.shape[axis] != size:
            weight = KERNEL_RULES[rule](weight, axis, size)
    return weight


def fit_transposed_kernel(weight: Tensor, kernel: Sequence[int]) -> Tensor:
    """Return a transposed convolution's `weight (in, out, *k)` with kernel sizes `kernel`.

    nnU-Net's transposed convolutions have kernel = stride, so each output voxel reads one tap: the mean of the old
    taps at each new position keeps the response to an image that is constant along the axis.
    """
    for axis, size in enumerate(kernel, start=2):
        if weight.shape[axis] != size:
            weight = weight.mean(axis, keepdim=True).expand(*weight.shape[:axis], size, *weight.shape[axis + 1 :])
    return weight


#: transposed convolutions with overlapping taps: every second output along an axis reads the middle tap, the others two
OVERLAPPING_KERNEL = 3
OVERLAPPING_STRIDE = 2


def inflate_overlapping(weight: Tensor) -> Tensor:
    """Return a transposed convolution's `weight (in, out, *k)`, of kernel 3 and stride 2, with a new first axis.

    The taps along the new axis are 1/2, 1 and 1/2 times the old weight, so that the taps of every output add up to it.
    """
    return torch.stack((weight / 2, weight, weight / 2), dim=2)


def _leading_widths(weight: Tensor, own: Tensor, shares: Sequence[int], transposed: bool) -> Tensor:
    """Put `weight` into the first channels of the initialised `own`; old outputs don't read new inputs.

    If channels were added, the first ones compute the same as in the source, and the new ones start at random. If there are
    fewer channels, the last ones are dropped.

    Parameters
    ----------
    shares : numbers of input channels from each input, which are aligned separately
    transposed : the weight is `(in, out, *k)`
    """
    if weight.dim() == 1:
        kept = min(len(weight), len(own))
        result = own.clone()
        result[:kept] = weight[:kept]
        return result
    if transposed:
        return _leading_widths(weight.transpose(0, 1), own.transpose(0, 1), shares, False).transpose(0, 1)
    result = own.clone()
    outputs = min(weight.shape[0], own.shape[0])
    result[:outputs] = 0
    for old, new in zip(_split(weight, shares), _split(result, shares), strict=True):
        inputs = min(old.shape[1], new.shape[1])
        new[:outputs, :inputs] = old[:outputs, :inputs]
    return result


def _split(weight: Tensor, shares: Sequence[int]) -> tuple[Tensor, ...]:
    unit = weight.shape[1] // sum(shares)
    return weight.split([unit * share for share in shares], dim=1)


#: rules for different widths; `None` refuses
WIDTH_RULES: dict[str, Callable[[Tensor, Tensor, Sequence[int], bool], Tensor] | None] = {
    "refuse": None,
    "leading": _leading_widths,
}


def fit_widths(weight: Tensor, own: Tensor, rule: str, shares: Sequence[int], transposed: bool) -> Tensor:
    """Return `weight` with the channels of `own`, which has the same kernel."""
    function = WIDTH_RULES[rule]
    return weight if function is None else function(weight, own, shares, transposed)


#: initial weights of a channel that the source doesn't have, from the source's weights `(out, in, *kernel)`
NEW_CHANNEL_RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda weight: weight.mean(dim=1),
    "zero": lambda weight: torch.zeros_like(weight[:, 0]),
}


def by_channel_name(weight: Tensor, source: Sequence[str], target: Sequence[str], new: str) -> Tensor:
    """Give each target channel the weights of the source channel with the same name, otherwise those of `NEW_CHANNEL_RULES`."""
    fresh = NEW_CHANNEL_RULES[new](weight)
    result = torch.stack([fresh] * len(target), dim=1)
    position = {comparable(name): i for i, name in enumerate(source) if is_name(name)}
    for i, name in enumerate(target):
        if is_name(name) and comparable(name) in position:
            result[:, i] = weight[:, position[comparable(name)]]
    return result


def with_zero_channels(weight: Tensor, n: int) -> Tensor:
    """Append input channels with weights 0 until there are `n`."""
    return torch.cat([weight, weight.new_zeros((weight.shape[0], n - weight.shape[1], *weight.shape[2:]))], dim=1)


def checked_rule(kind: str, name: str, table: Collection[str]) -> str:
    """Return `name` if `table` has it.

    Raises
    ------
    SettingsError
        If it doesn't; the message lists the valid names.
    """
    if name not in table:
        raise SettingsError(f"unknown rule '{name}' for {kind}; there are: {', '.join(table)}")
    return name
