"""Measures of transferability, from features, labels and outputs of voxels; higher is better. NumPy only.

References
----------
Nguyen C et al., LEEP, ICML 2020, arXiv:2002.12462. You K et al., LogME, ICML 2021, arXiv:2102.11005.
Pándy M et al., GBC, CVPR 2022, arXiv:2111.12780. Yang Y et al., CC-FV, MICCAI 2023, arXiv:2307.11958.
Vigna S, A weighted correlation index for rankings with ties, WWW 2015, doi:10.1145/2736277.2741088.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: search range of LogME: logarithms of alpha / beta, relative to the largest eigenvalue
_LOG_RATIOS = np.linspace(-25, 25, 101)
#: share of the mean variance that is added to each, so that constant features don't divide by zero
_RIDGE = 1e-6
_RESAMPLINGS = 2000


def leep(outputs: Floats, labels: Integers, weights: Floats | None = None) -> float:
    """Return the log expected empirical prediction: mean over voxels of log sum_z P(y|z) P(z|x).

    Parameters
    ----------
    outputs : probabilities of the source's classes z, shape `(voxels, source classes)`
    labels : target classes y, shape `(voxels,)`
    weights : number of voxels that each one represents, shape `(voxels,)`
    """
    shares = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    shares = shares / shares.sum()
    classes, index = np.unique(labels, return_inverse=True)
    joint = np.stack([(shares * (index == c)) @ outputs for c in range(len(classes))])
    conditional = joint / np.maximum(joint.sum(axis=0), np.finfo(float).tiny)
    expected = (outputs * conditional[index]).sum(axis=1)
    return float(shares @ np.log(np.maximum(expected, np.finfo(float).tiny)))


def logme(features: Floats, labels: Integers) -> float:
    """Return the log maximum evidence per voxel of Bayesian linear regression on each class's indicator, mean over classes.

    Alpha and beta, the precisions of prior and noise, maximise the evidence. LogME's authors use MacKay's fixed-point
    iteration, which may stop at a lower peak. Here, the ratio of the two is searched; the best beta for a ratio has a closed
    form.

    Parameters
    ----------
    features : shape `(voxels, channels)`
    labels : shape `(voxels,)`
    """
    left, singular, _ = np.linalg.svd(np.asarray(features, float), full_matrices=False)
    values = [_evidence(left, singular**2, features.shape, labels == c) for c in np.unique(labels)]
    return float(np.mean(values))


def _evidence(left: Floats, eigenvalues: Floats, shape: tuple[int, ...], indicator: NDArray[np.bool_]) -> float:
    count = shape[0]
    y = indicator.astype(float)
    projected = (left.T @ y) ** 2
    outside = max(0.0, float(y @ y - projected.sum()))

    def of_ratio(logarithm: float) -> float:
        """Evidence at this ratio alpha / beta, with the best beta for it, `count / misfit`."""
        ratio = np.exp(logarithm)
        misfit = (projected * ratio / (eigenvalues + ratio)).sum() + outside
        determinant = np.log1p(eigenvalues / ratio).sum()
        return float(-(count * np.log(2 * np.pi * misfit / count) + count + determinant) / (2 * count))

    # the evidence may have several peaks if there are more channels than voxels
    grid = np.log(max(float(eigenvalues.max()), np.finfo(float).tiny)) + _LOG_RATIOS
    peak = grid[int(np.argmax([of_ratio(value) for value in grid]))]
    step = _LOG_RATIOS[1] - _LOG_RATIOS[0]
    found = optimize.minimize_scalar(lambda v: -of_ratio(v), bounds=(peak - step, peak + step), method="bounded")
    return max(of_ratio(peak), -float(found.fun))


def gbc(features: Floats, labels: Integers) -> float:
    """Return minus the sum over ordered pairs of classes of exp(-Bhattacharyya distance), by diagonal Gaussians.

    Parameters
    ----------
    features : shape `(voxels, channels)`
    labels : shape `(voxels,)`; classes with fewer than two voxels are left out
    """
    classes = [c for c in np.unique(labels) if (labels == c).sum() > 1]
    ridge = _RIDGE * float(np.var(features, axis=0).mean()) + np.finfo(float).tiny
    gaussians = [(features[labels == c].mean(axis=0), features[labels == c].var(axis=0) + ridge) for c in classes]
    return -2 * float(sum(np.exp(-_bhattacharyya(*a, *b)) for a, b in itertools.combinations(gaussians, 2)))


def _bhattacharyya(mean_a: Floats, var_a: Floats, mean_b: Floats, var_b: Floats) -> float:
    var = (var_a + var_b) / 2
    apart = ((mean_a - mean_b) ** 2 / var).sum() / 8
    return float(apart + (np.log(var) - (np.log(var_a) + np.log(var_b)) / 2).sum() / 2)


#: of one case at one level: class -> its voxels' features, shape `(voxels, channels)`
ClassFeatures = Mapping[int, Floats]


def cc_fv(levels: Sequence[Sequence[ClassFeatures]]) -> float | None:
    """Return class consistency with feature variety: mean over levels of log(variety / consistency).

    Consistency is the mean 2-Wasserstein distance, by Gaussians, of a foreground class's features in two cases, over
    pairs of cases and classes. Variety is 1 over the mean of 1/distance of the cases' mean features (the hyperspherical
    energy for s = 1). The measure doesn't depend on the units of the features.

    Parameters
    ----------
    levels : for each level of the decoder the cases' features by class, 0 the background

    Returns
    -------
    value : None if no class occurs in two cases
    """
    terms = []
    for cases in levels:
        means = np.stack([np.concatenate(list(case.values())).mean(axis=0) for case in cases])
        apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(means, 2)]
        by_class = []
        for c in sorted({c for case in cases for c in case if c}):
            gaussians = [_gaussian(case[c]) for case in cases if c in case and len(case[c]) > 1]
            found = [_wasserstein(*a, *b) for a, b in itertools.combinations(gaussians, 2)]
            if found:
                by_class.append(np.mean(found))
        if by_class and min(apart, default=0) > 0 and np.mean(by_class) > 0:
            energy = np.mean(1 / np.array(apart))
            terms.append(-np.log(energy * np.mean(by_class)))
    return float(np.mean(terms)) if terms else None


def _gaussian(features: Floats) -> tuple[Floats, Floats]:
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def _wasserstein(mean_a: Floats, cov_a: Floats, mean_b: Floats, cov_b: Floats) -> float:
    """Return the 2-Wasserstein distance of two Gaussians."""
    root = _root(cov_a)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    squared = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    return float(np.sqrt(max(squared, 0.0)))


def _root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


def mean_ranks(scores: Floats, task: int) -> Floats:
    """Return the trivial baseline: each source's mean rank on all other tasks, negated, so that higher is better.

    Parameters
    ----------
    scores : shape `(sources, tasks)`, higher is better, NaN where unknown
    task : index of the task to leave out; -1 for none
    """
    others = np.delete(np.asarray(scores, float), task, axis=1) if task >= 0 else np.asarray(scores, float)
    ranks = np.full(others.shape, np.nan)
    for column in range(others.shape[1]):
        known = ~np.isnan(others[:, column])
        ranks[known, column] = stats.rankdata(-others[known, column])
    sums, counts = np.nansum(ranks, axis=1), (~np.isnan(ranks)).sum(axis=1)
    return np.where(counts > 0, -sums / np.maximum(counts, 1), np.nan)


def weighted_kendall(predicted: Sequence[float], achieved: Sequence[float]) -> float:
    """Return Kendall's tau with weights 1/i + 1/j of the pair of the i-th and j-th best achieved: -1 to 1.

    These are the additive hyperbolic weights of `scipy.stats.weightedtau`. A tie of predictions counts as neither correct
    nor wrong, so constant predictions have a tau of 0.
    """
    order = np.argsort(-np.asarray(achieved, float), kind="stable")
    ranked = np.asarray(predicted, float)[order]
    wrong = total = 0.0
    for i, j in itertools.combinations(range(len(ranked)), 2):
        weight = 1 / (i + 1) + 1 / (j + 1)
        total += weight
        wrong += weight * (1.0 if ranked[i] < ranked[j] else 0.5 if ranked[i] == ranked[j] else 0.0)
    return 1 - 2 * wrong / total if total else float("nan")


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean; NaN for fewer than two values."""
    array = np.asarray(values, float)
    if len(array) < 2:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).choice(array, (_RESAMPLINGS, len(array))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)
