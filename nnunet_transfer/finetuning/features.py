"""Input of the output layers: features and labels of sampled voxels at every resolution level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, autocast, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from nnunet_transfer.errors import DataError
from nnunet_transfer.finetuning.heads import Voxels
from nnunet_transfer.finetuning.sampling import draw_voxels, strata_of
from nnunet_transfer.finetuning.whole_batches import parts_of
from nnunet_transfer.training.precision import precise_device
from nnunet_transfer.words import shortened

#: maximum number of voxels per level. With twice as many, a fit of 17 classes took 1.6 times as long, and the Dice on whole
#: slices of validation cases was 0.748 instead of 0.746; with half as many, it was 0.735
MAX_VOXELS = 32_768
#: of all levels' features together, and of the largest fit's own arrays
FEATURE_BYTES, WORK_BYTES = 192 * 2**20, 192 * 2**20


@dataclass(frozen=True)
class Labelling:
    """How nnU-Net encodes a training target.

    Attributes
    ----------
    classes : number of outputs of the network
    regions : whether outputs are regions, each with one channel of the target, instead of classes of one label map
    ignore : label that the loss ignores; with regions, the last channel of the target marks it
    """

    classes: int
    regions: bool = False
    ignore: int | None = None


@dataclass
class Level:
    """What is collected for one output layer: one entry per patch in each list."""

    features: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.weights))

    def voxels(self, labelling: Labelling) -> Voxels:
        """Return all collected voxels for a fit."""
        lengths = torch.tensor([len(w) for w in self.weights])
        weights = torch.cat(self.weights)
        device = weights.device
        targets = torch.cat(self.targets)
        if not labelling.regions:
            targets = functional.one_hot(targets.long(), labelling.classes)
        _, groups = torch.tensor(self.groups).unique(return_inverse=True)
        _, batches = torch.tensor(self.batches).unique(return_inverse=True)
        batch_of = batches.repeat_interleave(lengths).to(device)
        totals = functional.one_hot(batch_of).T.to(weights) @ weights
        return Voxels(
            features=torch.cat(self.features),
            targets=targets.float(),
            weights=weights,
            groups=groups.repeat_interleave(lengths).to(device),
            shares=weights / totals[batch_of] / len(totals),
        )


def output_layers(network: nn.Module) -> list[nn.Module]:
    """Return the output layers if they can be fitted, that is, are 1x1 convolutions with a bias; otherwise an empty list."""
    layers = list(getattr(getattr(network, "decoder", None), "seg_layers", None) or ())
    fits = all(
        isinstance(layer, nn.Conv2d | nn.Conv3d)
        and set(layer.kernel_size) == {1}
        and layer.groups == 1
        and layer.bias is not None
        for layer in layers
    )
    return layers if fits else []


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Use batch statistics in BatchNorm, as in training, without updating the running statistics.

    Dropout is off. In distributed training, processes don't wait for each other.
    """
    training = network.training
    network.eval()
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    kept = [(m.running_mean, m.running_var) for m in norms]
    for module in norms:
        # without running statistics, torch uses batch statistics even in evaluation mode, and SyncBatchNorm doesn't synchronise
        module.running_mean = module.running_var = None
    try:
        yield
    finally:
        for module, (mean, variance) in zip(norms, kept, strict=True):
            module.running_mean, module.running_var = mean, variance
        network.train(training)


def rooms(channels: Iterable[int], classes: int, patches: int) -> list[int]:
    """Return the number of voxels to keep per level, so that all voxels and a fit stay below the limits above.

    A fit also takes some matrices of channels x channels, and float64 copies of features, whose size `heads` limits.

    Parameters
    ----------
    channels : number of features of each level
    patches : number of patches that the voxels come from
    """
    channels = list(channels)
    shared = FEATURE_BYTES // (4 * sum(channels))
    return [min(MAX_VOXELS, shared, WORK_BYTES // (4 * (10 * classes + 3 * c + patches))) for c in channels]


def collect(
    network: nn.Module,
    batches: Iterable[dict[str, Any]],
    labelling: Labelling,
    *,
    patches: int,
    by_patch: bool,
    device: torch.device,
    generator: torch.Generator,
    at_once: int | None = None,
) -> list[Level]:
    """Pass batches through the network and keep the features and labels of some voxels for each output layer.

    Parameters
    ----------
    network : plain network before training; unchanged on return
    batches : with `data`, shape `(patch, channel, *spatial)`, and `target`, one tensor or one per level
    patches : approximate number of patches in `batches`
    by_patch : whether the loss computes Dice per patch instead of per batch
    at_once : maximum number of patches to pass through the network together; all of a batch by default

    Returns
    -------
    levels : one per output layer, on `device` or, if a fit can't be computed there, on the CPU; empty if the loss doesn't use
        the layer's output

    Raises
    ------
    DataError
        If images or features are not finite.
    """
    layers = output_layers(network)
    levels = [Level() for _ in layers]
    room = rooms([int(layer.in_channels) for layer in layers], labelling.classes, patches)  # type: ignore[arg-type]
    kept_on = precise_device(device)
    first = 0
    with torch.no_grad(), batch_statistics(network), _calls(layers) as calls:
        for number, part in _numbered_parts(batches, at_once, network):
            calls.clear()
            data = part["data"].to(device, non_blocking=True)
            _check_images(data, part)
            with autocast("cuda") if device.type == "cuda" else nullcontext():
                outputs = network(data)
            groups = range(first, first + len(data)) if by_patch else [number] * len(data)
            for i, features, target in _with_targets(calls, outputs, part["target"]):
                per_patch = max(1, room[i] // patches)
                _keep(levels[i], features, target.to(kept_on), labelling, per_patch, groups, number, generator)
            first += len(data)
    return levels


#: output layer -> its input and output in one pass through the network
_Calls = dict[int, tuple[Tensor, Tensor]]


@contextmanager
def _calls(layers: Sequence[nn.Module]) -> Iterator[_Calls]:
    """Yield a dictionary into which the layers write each pass through the network."""
    calls: _Calls = {}
    hooks = [
        layer.register_forward_hook(lambda _, inputs, output, i=i: calls.__setitem__(i, (inputs[0], output)))
        for i, layer in enumerate(layers)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _numbered_parts(
    batches: Iterable[dict[str, Any]], at_once: int | None, network: nn.Module
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield batches in parts of at most `at_once` patches, with the number of the batch."""
    for number, batch in enumerate(batches):
        for part in parts_of(batch, at_once or len(batch["data"]), network):
            yield number, part


def _with_targets(
    calls: _Calls, outputs: Tensor | Sequence[Tensor], targets: Tensor | Sequence[Tensor]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield index, input and target of the output layers whose output the loss uses.

    Parameters
    ----------
    outputs, targets : of one level of resolution, or of several in the same order
    """
    pairs = list(zip(_as_list(outputs), _as_list(targets), strict=False))
    for i, (features, output) in calls.items():
        target = next((t for o, t in pairs if o is output), None)
        if target is not None:
            yield i, features, target


def _as_list(levels: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [levels] if isinstance(levels, Tensor) else list(levels)


def _check_images(data: Tensor, batch: Mapping[str, Any]) -> None:
    """Refuse NaN and infinite voxels, to which nothing can be fitted.

    Raises
    ------
    DataError
        With the names of the cases, if the batch has them.
    """
    faulty = ~torch.isfinite(data).flatten(1).all(1)
    if not faulty.any():
        return
    keys = batch.get("keys")
    names = [] if keys is None else sorted({str(keys[i]) for i in faulty.nonzero()[:, 0].tolist()})
    cases = f" of {shortened(names, 3)}" if names else ""
    raise DataError(
        f"training patches{cases} have voxels that are NaN or infinite, from which no network can learn; correct the images "
        f"(often their background is NaN) and preprocess again"
    )


def _keep(
    level: Level,
    features: Tensor,
    target: Tensor,
    labelling: Labelling,
    room: int,
    groups: Sequence[int],
    batch: int,
    generator: torch.Generator,
) -> None:
    """Keep about `room` voxels of each patch; `groups` holds the group of each patch in the Dice."""
    for group, own, label in zip(groups, features.flatten(2), target.flatten(2), strict=True):
        coded, strata = _coded(label, labelling)
        indices, weights = draw_voxels(strata, room, generator)
        if len(indices):
            chosen = own[:, indices.to(own.device)].T.float().to(target.device)
            if not torch.isfinite(chosen).all():
                raise DataError(
                    "the network's features are NaN or infinite before any training, although the images aren't; check the "
                    "source that it starts from, and the range of the images' intensities"
                )
            level.features.append(chosen)
            level.targets.append(coded[indices])
            level.weights.append(weights)
            level.groups.append(group)
            level.batches.append(batch)


def _coded(label: Tensor, labelling: Labelling) -> tuple[Tensor, Tensor]:
    """Return class, or regions, and stratum of each voxel of a patch; the stratum of ignored voxels is -1.

    Parameters
    ----------
    label : shape (channels of the target, voxels)
    """
    if labelling.regions:
        coded = label[: labelling.classes].T.to(torch.uint8)
        strata = strata_of(coded)
        ignored = None if labelling.ignore is None else label[-1].bool()
    else:
        coded = label[0].to(torch.int16)
        strata = coded.long()
        ignored = None if labelling.ignore is None else strata == labelling.ignore
    return coded, strata if ignored is None else strata.masked_fill(ignored, -1)
