"""TopoTE's two scores of a loaded network on a target's cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nnunet_transfer.finetuning.features import Level, batch_statistics
from nnunet_transfer.ranking.target import Target
from nnunet_transfer.ranking.topology import ANCHORS, borders, grtd, lbtc, over_stages

#: voxels of each class, of a case at a stage
_PER_CLASS = 200


def global_score(collected: Mapping[str, Sequence[Level]], target: Target, seed: int) -> float:
    """Return the mean over cases of minus the divergence at the decoder's levels; NaN for regions."""
    if target.labelling.regions:
        return math.nan
    by_level: list[float | None] = []
    for number in range(len(next(iter(collected.values())))):
        found = []
        for case in target.cases:
            level = collected[case][number]
            if len(level):
                features = torch.cat(level.features).cpu().double().numpy()
                labels = torch.cat(level.targets).cpu().numpy().astype(np.int64)
                chosen = _balanced(labels, np.random.default_rng([seed, *case.encode()]))
                if (value := grtd(features[chosen], labels[chosen])) is not None:
                    found.append(value)
        by_level.append(float(np.mean(found)) if found else None)
    return over_stages(by_level, encoder=False)


def local_score(
    network: nn.Module, batches: Iterable[tuple[str, dict[str, Any]]], target: Target, device: torch.device, seed: int
) -> float:
    """Return the mean over cases of the consistency at the encoder's stages; NaN for regions.

    Parameters
    ----------
    batches : cases with their patches, as `draw_patches` gives them; one is in memory at a time
    """
    if target.labelling.regions:
        return math.nan
    encoder: Any = network.encoder
    by_stage: dict[int, list[float]] = {}
    stages = 0
    for case, batch in batches:
        rng = np.random.default_rng([seed, *case.encode()])
        with torch.no_grad(), batch_statistics(network):
            outputs = encoder(batch["data"].to(device))
        stages = len(outputs)
        finest = batch["target"][0].float()
        for stage, output in enumerate(outputs):
            sampled = _at_borders(output, finest, target.labelling.ignore, rng)
            if sampled is not None and (value := lbtc(*sampled)) is not None:
                by_stage.setdefault(stage, []).append(value)
    values = [float(np.mean(by_stage[s])) if s in by_stage else None for s in range(stages)]
    return over_stages(values, encoder=True)


def _at_borders(
    output: torch.Tensor, finest: torch.Tensor, ignore: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return features and labels of voxels of all classes and of borders, and which of them are the borders'."""
    coarse = nn.functional.interpolate(finest, size=output.shape[2:], mode="nearest")[:, 0].long().cpu().numpy()
    border = np.stack([borders(np.where(label == ignore, 0, label)) for label in coarse])
    labels, at_border = coarse.reshape(-1), np.flatnonzero(border.reshape(-1))
    if not len(at_border):
        return None
    anchors = rng.choice(at_border, min(ANCHORS, len(at_border)), replace=False)
    pool = _balanced(labels, rng)
    if ignore is not None:
        pool = pool[labels[pool] != ignore]
    chosen = np.unique(np.concatenate([pool, anchors]))
    # voxels of all patches in the order of `labels`
    flat = output.movedim(1, -1).reshape(-1, output.shape[1])
    features = flat[torch.from_numpy(chosen).to(flat.device)].cpu().double().numpy()
    return features, labels[chosen], np.searchsorted(chosen, np.sort(anchors))


def _balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    chosen = [
        rng.choice(found, min(len(found), _PER_CLASS), replace=False)
        for found in (np.flatnonzero(labels == c) for c in np.unique(labels))
    ]
    return np.sort(np.concatenate(chosen))
