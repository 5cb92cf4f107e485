"""Stability of the ranking of the arms under a bootstrap of the subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from nnunet_transfer.comparison.bootstrap import DEFAULT_LEVEL, Clusters, FloatArray, ratio_draws
from nnunet_transfer.comparison.settings import DEFAULT_DRAWS
from nnunet_transfer.comparison.statistics import DECIMALS


@dataclass(frozen=True)
class RankStability:
    """Ranks of arms, 1 is best; tied arms share the mean of their ranks.

    Attributes
    ----------
    rank : of the means over all rows, shape (k,)
    low, high : interval of the rank under the bootstrap, shape (k,); NaN if there is only one subject to draw
    shares : how often arm i takes rank j + 1, ties divided evenly; shape (k, k), rows sum to 1; NaN likewise
    tau : mean of Kendall's tau-a between the bootstrap's order and that of `rank`; NaN likewise, and for fewer than two arms
    n_rows : complete rows that were used
    """

    rank: FloatArray
    low: FloatArray
    high: FloatArray
    shares: FloatArray
    tau: float
    n_rows: int


def rank_stability(
    values: FloatArray,
    clusters: Clusters,
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    level: float = DEFAULT_LEVEL,
) -> RankStability | None:
    """Rank arms by their mean, and again in every replicate of a bootstrap over subjects within folds.

    Parameters
    ----------
    values : scores, shape (n_rows, k), higher is better; rows with NaN in any arm are left out
    clusters : subjects of the rows

    Returns
    -------
    RankStability or None
        None if no row is complete.

    References
    ----------
    Wiesenfarth et al., Sci Rep 2021, 11:2369 (aggregate, then rank; bootstrap of challenge rankings).
    """
    complete = np.asarray(np.isfinite(values).all(axis=1))
    if not complete.any():
        return None
    kept = np.where(complete[:, None], values, np.nan)
    counted = np.broadcast_to(complete[:, None], values.shape).astype(float)
    observed = np.round(values[complete].mean(axis=0), DECIMALS)
    rank = stats.rankdata(-observed)
    if len(np.unique(clusters.index[complete])) < 2:
        # every sample is the observed one, which says nothing about other subjects
        unknown = np.full(len(rank), np.nan)
        return RankStability(rank, unknown, unknown, np.outer(unknown, unknown), float("nan"), int(complete.sum()))
    replicates = ratio_draws(clusters.sums(kept), clusters.sums(counted), clusters.strata, draws, seed)
    replicates = np.round(replicates[np.isfinite(replicates).all(axis=1)], DECIMALS)
    ranks = stats.rankdata(-replicates, axis=1)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(ranks, tails, axis=0)
    return RankStability(rank, low, high, _shares(replicates), _mean_tau(replicates, observed), int(complete.sum()))


def _shares(replicates: FloatArray) -> FloatArray:
    first = stats.rankdata(-replicates, axis=1, method="min")
    last = stats.rankdata(-replicates, axis=1, method="max")
    places = np.arange(1, replicates.shape[1] + 1)
    shares = [((first <= p) & (p <= last)) / (last - first + 1) for p in places]
    return np.stack([share.mean(axis=0) for share in shares], axis=1)


def _mean_tau(replicates: FloatArray, observed: FloatArray) -> float:
    i, j = np.triu_indices(len(observed), 1)
    if not len(i):
        return float("nan")
    agreement = np.sign(replicates[:, i] - replicates[:, j]) * np.sign(observed[i] - observed[j])
    return float(agreement.mean())
