"""Drawing voxels for the fit of output layers: as many of each class as there is room for, with weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def quotas(counts: Sequence[int], room: int) -> list[int]:
    """Return how many voxels to keep of each stratum: equal shares, and what small ones leave goes to the others.

    Each stratum keeps at least one voxel, whatever the room.
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
    room : about how many to draw
    generator : on the CPU, so that all devices draw alike

    Returns
    -------
    indices : int64, in rising order
    weights : float32: how many voxels of its stratum each stands for; they sum to the number of voxels
    """
    candidates = (strata >= 0).nonzero()[:, 0]
    _, members, counts = torch.unique(strata[candidates], return_inverse=True, return_counts=True)
    keep = quotas(counts.tolist(), room)
    if sum(keep) == len(candidates):
        return candidates, torch.ones(len(candidates), device=strata.device)
    shuffled = torch.randperm(len(candidates), generator=generator).to(strata.device)
    # a stable sort by stratum leaves a random order within each
    order = shuffled[members[shuffled].argsort(stable=True)]
    first = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=strata.device) - first.repeat_interleave(counts)
    kept = torch.tensor(keep, device=strata.device)
    chosen = order[rank < kept.repeat_interleave(counts)].sort().values
    weights = (counts / kept)[members[chosen]]
    return candidates[chosen], weights.float()


def strata_of(targets: Tensor) -> Tensor:
    """Return a number per voxel that is the same for the same combination of regions.

    Parameters
    ----------
    targets : in {0, 1}, shape (voxels, regions)
    """
    # random factors, the same ones every time: sums of any two combinations agree with a chance of 2^-62
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(2**62, (targets.shape[1],), generator=generator).to(targets.device)
    return (targets.long() * factors).sum(1) & (2**62 - 1)
