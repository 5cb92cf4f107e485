"""Cluster bootstrap that resamples subjects instead of cases, within folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from nnunet_transfer.comparison.settings import DEFAULT_DRAWS

FloatArray = NDArray[np.float64]

DEFAULT_LEVEL = 0.95
#: draws per block; limits the memory and determines the order of the random numbers
CHUNK = 500


@dataclass(frozen=True)
class Intervals:
    """Estimates with confidence intervals; all arrays have shape (k,).

    Attributes
    ----------
    estimate, low, high : NaN if there is nothing to estimate
    method : "BCa", "percentile" if BCa is degenerate, or "none" with fewer than two clusters
    """

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    method: tuple[str, ...]


def cluster_weights(strata: NDArray[np.int64], draws: int, seed: int) -> Iterator[FloatArray]:
    """Yield blocks of bootstrap weights, shape (block, n_clusters): how much each cluster counts.

    From the n clusters of a stratum, n - 1 are drawn and scaled up to n. Drawing n would underestimate the variance by the
    factor (n - 1) / n, which matters for folds with few subjects. Strata with a single cluster, which could not vary, are
    merged first, see `collapsed`.

    Parameters
    ----------
    strata : stratum of each cluster, shape (n_clusters,); the weights of each stratum sum to its number of clusters

    References
    ----------
    Rao & Wu, J Am Stat Assoc 1988, 83:231.
    """
    rng = np.random.default_rng(seed)
    strata = collapsed(strata)
    members = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    for start in range(0, draws, CHUNK):
        block = min(CHUNK, draws - start)
        weights = np.ones((block, len(strata)))
        for index in members:
            n = len(index)
            if n > 1:
                weights[:, index] = rng.multinomial(n - 1, np.full(n, 1 / n), size=block) * (n / (n - 1))
        yield weights


def collapsed(strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merge all strata with a single cluster; if there is only one, merge it with the smallest other stratum.

    Resampling a stratum with one cluster always gives the same cluster: with one subject per fold, all intervals would
    have zero width.

    References
    ----------
    Wolter, Introduction to Variance Estimation, 2nd ed. 2007, section 2.5 (collapsed strata; conservative).
    """
    names, counts = np.unique(strata, return_counts=True)
    single = names[counts == 1]
    if len(single) == 0 or len(names) == 1:
        return strata
    others = names[counts > 1]
    target = single[0] if len(single) > 1 else others[np.argmin(counts[counts > 1])]
    return np.where(np.isin(strata, single), target, strata)


def ratio_draws(
    numerator: FloatArray, denominator: FloatArray, strata: NDArray[np.int64], draws: int, seed: int
) -> FloatArray:
    """Return bootstrap replicates of sum(numerator) / sum(denominator), shape (draws, k).

    Parameters
    ----------
    numerator, denominator : sums per cluster, shape (n_clusters, k); for a mean over cases, the sum of the cluster's
        values and its number of cases
    strata : stratum of each cluster, shape (n_clusters,)
    """
    blocks = []
    for weights in cluster_weights(strata, draws, seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            blocks.append((weights @ numerator) / (weights @ denominator))
    return np.concatenate(blocks)


def cluster_bootstrap(
    numerator: FloatArray,
    denominator: FloatArray,
    strata: NDArray[np.int64],
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    level: float = DEFAULT_LEVEL,
) -> Intervals:
    """Estimate sum(numerator) / sum(denominator) with bias-corrected and accelerated intervals.

    The acceleration comes from the jackknife over clusters. If all replicates are equal, or the correction leaves the range
    of the replicates, the percentile interval is returned instead.

    Parameters
    ----------
    numerator, denominator, strata : as in `ratio_draws`

    References
    ----------
    Efron, J Am Stat Assoc 1987, 82:171 (BCa); Davison & Hinkley, Bootstrap Methods and their Application, 1997
    (stratified and cluster resampling); Rao & Wu, J Am Stat Assoc 1988, 83:231 (see `cluster_weights`).
    """
    n, k = numerator.shape
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = numerator.sum(0) / denominator.sum(0)
        jackknife = (numerator.sum(0) - numerator) / (denominator.sum(0) - denominator)
    low, high = np.full(k, np.nan), np.full(k, np.nan)
    used = (denominator > 0).sum(0)
    method = ["none"] * k
    if n < 2:
        return Intervals(estimate, low, high, tuple(method))
    replicates = ratio_draws(numerator, denominator, strata, draws, seed)
    for i in range(k):
        if used[i] < 2:
            continue
        low[i], high[i], method[i] = _interval(replicates[:, i], estimate[i], jackknife[:, i], level)
    return Intervals(estimate, low, high, tuple(method))


def _interval(replicates: FloatArray, estimate: float, jackknife: FloatArray, level: float) -> tuple[float, float, str]:
    replicates = replicates[np.isfinite(replicates)]
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    # half of the ties count as below: with few distinct values, replicates would bias the correction
    below = np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2
    deviation = np.nanmean(jackknife) - jackknife[np.isfinite(jackknife)]
    spread = float((deviation**2).sum())
    if 0 < below < 1 and spread > 1e-24 * max(1.0, estimate**2):
        acceleration = float((deviation**3).sum()) / (6 * spread**1.5)
        bias = ndtri(below)
        shifted = bias + ndtri(tails)
        scale = 1 - acceleration * shifted
        if (scale > 0).all():
            low, high = np.quantile(replicates, ndtr(bias + shifted / scale))
            return float(low), float(high), "BCa"
    low, high = np.quantile(replicates, tails)
    return float(low), float(high), "percentile"


@dataclass(frozen=True)
class Clusters:
    """The subjects of a set of cases.

    Attributes
    ----------
    index : cluster of each case, shape (n_cases,)
    strata : stratum (fold) of each cluster, shape (n_clusters,)
    """

    index: NDArray[np.int64]
    strata: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of clusters."""
        return len(self.strata)

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum values of cases, shape (n_cases, k), per cluster; NaN counts as 0. Shape (n_clusters, k)."""
        total = np.zeros((self.n, values.shape[1]))
        np.add.at(total, self.index, np.nan_to_num(values, nan=0.0))
        return total

    def means(self, values: FloatArray) -> FloatArray:
        """Average values of cases, shape (n_cases, k), per cluster without NaN. Shape (n_clusters, k)."""
        with np.errstate(invalid="ignore"):
            return self.sums(values) / self.sums(np.isfinite(values).astype(float))


def make_clusters(subjects: list[str], folds: NDArray[np.int64]) -> Clusters:
    """Group cases by subject; a subject's stratum is the fold of its first case."""
    _, first, index = np.unique(np.asarray(subjects), return_index=True, return_inverse=True)
    return Clusters(index.astype(np.int64), np.asarray(folds, np.int64)[first])


def mean_intervals(
    values: FloatArray, clusters: Clusters, *, draws: int = DEFAULT_DRAWS, seed: int = 0, level: float = DEFAULT_LEVEL
) -> Intervals:
    """Bootstrap the mean over cases of each column of `values`, shape (n_cases, k); NaN are left out."""
    counted = np.isfinite(values).astype(float)
    return cluster_bootstrap(
        clusters.sums(values), clusters.sums(counted), clusters.strata, draws=draws, seed=seed, level=level
    )
