"""The fitted-head score: output layers fitted on some subjects and tested on others, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nnunet_transfer.evaluation.detection import detect
from nnunet_transfer.evaluation.lesions import lesion_overlap
from nnunet_transfer.evaluation.protocols import LesionProtocol, get_protocol
from nnunet_transfer.finetuning.features import Level, batch_statistics, output_layers
from nnunet_transfer.finetuning.fitted_start import write_head
from nnunet_transfer.finetuning.heads import LossTerms, fit_head
from nnunet_transfer.ranking.target import Target, predict


@dataclass(frozen=True)
class CaseScore:
    """Scores of a held-out case.

    Attributes
    ----------
    dice : mean over the foreground classes in its reference; NaN if there are none
    lesion_f1 : F1 under the lesion protocol; NaN with several classes, or without lesions in the reference
    """

    dice: float
    lesion_f1: float


def deal_subjects(subjects: Mapping[str, str], folds: int, seed: int) -> list[list[str]]:
    """Return the held-out cases of each fold; all cases of a subject are in the same fold."""
    names = sorted(set(subjects.values()))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[i]: place % min(folds, len(names)) for place, i in enumerate(order.tolist())}
    return [
        [case for case in sorted(subjects) if fold_of[subjects[case]] == fold] for fold in range(min(folds, len(names)))
    ]


def score_fitted_heads(
    network: nn.Module,
    target: Target,
    collected: Mapping[str, Level],
    *,
    folds: int,
    seed: int,
    device: torch.device,
    protocol: str = "atlas_r2",
) -> dict[str, CaseScore]:
    """Fit the finest output layer on all folds except one and predict the held-out cases; return the scores of all cases.

    Parameters
    ----------
    network : network with the weights to score; its finest output layer is overwritten
    collected : case -> features and labels at the finest level
    """
    layer = output_layers(network)[-1]
    rules = get_protocol(protocol)
    terms = LossTerms(regions=target.labelling.regions, background=target.labelling.regions)
    scores: dict[str, CaseScore] = {}
    for held_out in deal_subjects(target.subjects, folds, seed):
        fitted_on = joined([collected[case] for case in target.cases if case not in set(held_out)])
        head = fit_head(fitted_on.voxels(target.labelling), terms)
        write_head(layer, head)
        for case in held_out:
            image, reference, _ = target.load(case)
            with batch_statistics(network):
                prediction = predict(network, target, image, device)
            scores[case] = score_case(reference, prediction, target, rules)
    return scores


def joined(levels: Sequence[Level]) -> Level:
    """Join the voxels of several cases."""
    result = Level()
    patches = batches = 0
    for level in levels:
        result.features += level.features
        result.targets += level.targets
        result.weights += level.weights
        result.groups += [patches + group for group in level.groups]
        result.batches += [batches + batch for batch in level.batches]
        patches += max(level.groups, default=-1) + 1
        batches += max(level.batches, default=-1) + 1
    return result


def score_case(
    reference: NDArray[np.int16], prediction: NDArray[np.int16], target: Target, protocol: LesionProtocol
) -> CaseScore:
    """Score a prediction on the preprocessed grid; ignored voxels don't count."""
    counted = np.ones(reference.shape, bool)
    if target.labels.ignore_label is not None:
        counted = reference != target.labels.ignore_label
    dice = []
    for values in target.classes:
        truth, found = np.isin(reference, values) & counted, np.isin(prediction, values) & counted
        if truth.any():
            dice.append(2 * (truth & found).sum() / (truth.sum() + found.sum()))
    f1 = float("nan")
    if len(target.classes) == 1 and dice:
        voxel = float(np.prod(target.configuration.spacing)) if len(target.configuration.spacing) == 3 else 1.0
        f1 = detect(lesion_overlap(truth, found, connectivity=protocol.connectivity), protocol, voxel).f1
    return CaseScore(float(np.mean(dice)) if dice else float("nan"), f1)
