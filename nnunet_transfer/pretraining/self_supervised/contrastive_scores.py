"""Scores of projections: retrieval, alignment and uniformity."""

from __future__ import annotations

import torch
from torch.nn import functional

from nnunet_transfer.pretraining.self_supervised.losses import NTXentLoss

#: Wang and Isola, ICML 2020 (arXiv:2005.10242), section 4: t of the Gaussian potential
POTENTIAL = 2.0


def partners(pairs: int, device: torch.device | None = None) -> torch.Tensor:
    """Return each view's partner, int64 of shape `(2 * pairs,)`: views i and i + pairs belong together."""
    return torch.arange(2 * pairs, device=device).roll(pairs)


def retrieved(projections: torch.Tensor) -> torch.Tensor:
    """Return whether each view's nearest neighbour by angle is its partner, boolean `(2 * pairs,)`.

    Ties go to the first neighbour.
    """
    unit = functional.normalize(projections.cpu().double())
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    return similarity.argmax(dim=1) == partners(len(unit) // 2)


def alignments(projections: torch.Tensor) -> torch.Tensor:
    """Return the squared distance between the partners of each pair on the unit sphere, `(pairs,)`."""
    first, second = functional.normalize(projections.cpu().double()).chunk(2)
    return (first - second).square().sum(dim=1)


def uniformity(projections: torch.Tensor) -> float | None:
    """Return the logarithm of the mean Gaussian potential between different patches, lower is more uniform.

    As in Wang and Isola's code, it is computed separately for first and second views and averaged. 0 if all projections are
    identical; None for a single pair.
    """
    halves = functional.normalize(projections.cpu().double()).chunk(2)
    if len(halves[0]) < 2:
        return None
    values = [torch.pdist(half).square().mul(-POTENTIAL).exp().mean().log() for half in halves]
    return float(sum(values) / len(values))


def contrastive_scores(projections: torch.Tensor) -> dict[str, float | None]:
    """Return loss, top-1 retrieval and its chance level, alignment and uniformity.

    Parameters
    ----------
    projections : `(2 * pairs, size)`, views i and i + pairs of the same patch
    """
    pairs = len(projections) // 2
    return {
        "loss": float(NTXentLoss()(projections, partners(pairs, projections.device))),
        "top1_accuracy": float(retrieved(projections).double().mean()),
        "chance": 1 / (2 * pairs - 1),
        "alignment": float(alignments(projections).mean()),
        "uniformity": uniformity(projections),
    }


def case_scores(projections: torch.Tensor) -> list[dict[str, float]]:
    """Return, for each pair, the share of its two views that are retrieved, and its alignment."""
    found = retrieved(projections).double().reshape(2, -1).mean(dim=0)
    return [
        {"top1_accuracy": float(share), "alignment": float(distance)}
        for share, distance in zip(found, alignments(projections), strict=True)
    ]
