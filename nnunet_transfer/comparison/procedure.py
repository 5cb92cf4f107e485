"""Intervals for the training procedure instead of the networks at hand, because training runs also vary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.bootstrap import (
    DEFAULT_LEVEL,
    Clusters,
    FloatArray,
    cluster_weights,
    make_clusters,
)
from nnunet_transfer.comparison.settings import DEFAULT_DRAWS, CompareSettings
from nnunet_transfer.comparison.statistics import nadeau_bengio

NAN = float("nan")
#: with two folds, the t-test has one degree of freedom and its interval is useless
LEAST_FOLDS = 3


@dataclass(frozen=True)
class ProcedureInterval:
    """Interval of a difference between two procedures.

    Attributes
    ----------
    low, high : NaN if there are too few training runs
    p : two-sided p-value; NaN for the bootstrap
    method : method in words, with the number of runs
    """

    low: float = NAN
    high: float = NAN
    p: float = NAN
    method: str = ""


def two_level_interval(
    first: FloatArray,
    second: FloatArray,
    clusters: Clusters,
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    level: float = DEFAULT_LEVEL,
) -> tuple[float, float]:
    """Bootstrap the difference of two arms' means over training runs and subjects.

    In each replicate, runs are drawn per fold and arm, and subjects per fold, the same for both arms. From n runs, n - 1 are
    drawn, for the reason given in `cluster_weights`.

    Parameters
    ----------
    first, second : scores, shape (n_rows, n_seeds), each with at least two seeds; NaN are left out
    clusters : subjects of the rows; their strata are the folds

    Returns
    -------
    low, high : percentile interval of mean(first) - mean(second)

    References
    ----------
    Rao & Wu, J Am Stat Assoc 1988, 83:231 (draws of n - 1); Davison & Hinkley, Bootstrap Methods and their
    Application, 1997, section 3.8 (hierarchical data).
    """
    sums = [(clusters.sums(arm), clusters.sums(np.isfinite(arm).astype(float))) for arm in (first, second)]
    members = [np.flatnonzero(clusters.strata == fold) for fold in np.unique(clusters.strata)]
    rng = np.random.default_rng(seed + 1)
    replicates = []
    for weights in cluster_weights(clusters.strata, draws, seed):
        means = []
        for numerator, denominator in sums:
            runs = numerator.shape[1]
            total, count = np.zeros(len(weights)), np.zeros(len(weights))
            for index in members:
                drawn = rng.multinomial(runs - 1, np.full(runs, 1 / runs), size=len(weights))
                total += ((weights[:, index] @ numerator[index]) * drawn).sum(1)
                count += ((weights[:, index] @ denominator[index]) * drawn).sum(1)
            with np.errstate(invalid="ignore", divide="ignore"):
                means.append(total / count)
        replicates.append(means[0] - means[1])
    finite = np.concatenate(replicates)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return NAN, NAN
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def procedure_interval(
    scores: Scores, first: str, second: str, metric: str, settings: CompareSettings
) -> ProcedureInterval:
    """Estimate the difference between two arms if both are trained again.

    With several seeds of both arms, use `two_level_interval`, otherwise `nadeau_bengio` on the means of folds.
    """
    runs = scores.per_run
    # a run without a seed in its name is a separate run
    seeded = runs.assign(seed=runs["seed"].fillna(-1)).set_index(["subject", "fold", "seed"])
    wide = [seeded.loc[seeded["arm"] == arm, metric].unstack("seed").sort_index() for arm in (first, second)]
    complete = wide[0].notna().any(axis=1) & wide[1].notna().any(axis=1)
    first_scores, second_scores = (frame[complete] for frame in wide)
    seeds = min(first_scores.notna().any().sum(), second_scores.notna().any().sum())
    index = first_scores.index.to_frame()
    if seeds >= 2:
        clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
        low, high = two_level_interval(
            first_scores.to_numpy(float),
            second_scores.to_numpy(float),
            clusters,
            draws=settings.draws,
            seed=settings.seed,
        )
        return ProcedureInterval(low, high, NAN, f"two-level bootstrap, {seeds} seeds")
    difference = first_scores.mean(axis=1) - second_scores.mean(axis=1)
    by_fold = difference.groupby(level="fold").mean()
    if len(by_fold) < LEAST_FOLDS:
        return ProcedureInterval(method=f"none: one seed, fewer than {LEAST_FOLDS} folds")
    ratio = float(np.mean([scores.ratios[int(fold)] for fold in by_fold.index]))
    test = nadeau_bengio(by_fold.to_numpy(float), test_train_ratio=ratio, centre=float(difference.mean()))
    return ProcedureInterval(test.low, test.high, test.p, f"Nadeau-Bengio, {test.folds} folds")
