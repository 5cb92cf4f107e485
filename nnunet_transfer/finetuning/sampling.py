"""Sample voxels for fitting output layers: balanced over classes, with weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def quotas(counts: Sequence[int], room: int) -> list[int]:
    """Return the number of voxels to keep per stratum: equal shares; unused shares of small strata go to the others.

    Each stratum keeps at least one voxel, regardless of `room`.
    """
    left, kept = room, [0] * len(counts)
    order = sorted(range(len(counts)), key=lambda stratum: counts[stratum])
    for position, stratum in enumerate(order):
        kept[stratum] = min(counts[stratum], max(1, left // (len(order) - position)))
        left -= kept[stratum]
    return kept


def draw_voxels(strata: Tensor, room: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw voxels of each stratum without replacement.

    Parameters
    ----------
    strata : int64, shape (voxels,): any number per stratum; negative ones are never drawn
    room : approximate number of voxels to draw
    generator : CPU generator, so that the result doesn't depend on the device

    Returns
    -------
    indices : int64, in increasing order
    weights : float32, number of voxels of its stratum that each one represents; the sum is the number of voxels
    """
    candidates = (strata >= 0).nonzero()[:, 0]
    _, members, counts = torch.unique(strata[candidates], return_inverse=True, return_counts=True)
    keep = quotas(counts.tolist(), room)
    if sum(keep) == len(candidates):
        return candidates, torch.ones(len(candidates), device=strata.device)
    shuffled = torch.randperm(len(candidates), generator=generator).to(strata.device)
    # a stable sort by stratum keeps the random order within each stratum
    order = shuffled[members[shuffled].argsort(stable=True)]
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=strata.device) - first.repeat_interleave(counts)
    kept = torch.tensor(keep, device=strata.device)
    chosen = order[rank < kept.repeat_interleave(counts)].sort().values
    weights = (counts / kept)[members[chosen]]
    return candidates[chosen], weights.float()


def strata_of(targets: Tensor) -> Tensor:
    """Return a number per voxel that is equal for equal combinations of regions.

    Parameters
    ----------
    targets : values 0 or 1, shape (voxels, regions)
    """
    # fixed random factors: the sums of two different combinations coincide with a probability of 2^-62
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(2**62, (targets.shape[1],), generator=generator).to(targets.device)
    return (targets.long() * factors).sum(1) & (2**62 - 1)
