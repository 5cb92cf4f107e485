"""Paired statistics on differences between two arms: pure functions of numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

#: no p-value for fewer subjects
LEAST_PAIRS = 6
#: no p-value for fewer pairs that differ, because the smallest possible p is above 0.2
LEAST_INFORMATIVE = 4
#: p is exact up to this number of pairs that differ
EXACT_PAIRS = 50
ALPHA = 0.05
#: below this number of subjects a report warns that a test has little power
FEW_SUBJECTS = 20
#: decimals that differences are rounded to, so that equal scores computed in two ways tie
DECIMALS = 10


def complete(differences: FloatArray) -> FloatArray:
    """Return the finite differences, rounded so that rounding errors don't break ties."""
    return np.round(differences[np.isfinite(differences)], DECIMALS)


def wilcoxon_p(differences: FloatArray) -> float:
    """Two-sided p of the signed-rank test; NaN for fewer than 6 pairs, or fewer than 4 that differ.

    Zeros are ranked and then dropped (Pratt). For up to `EXACT_PAIRS` pairs that differ, p is exact: the share of all 2^n
    sign flips whose rank sum is at least as far from its mean. For more pairs, the normal approximation is used.

    References
    ----------
    Wilcoxon, Biometrics Bulletin 1945, 1:80; Pratt, J Am Stat Assoc 1959, 54:655.
    """
    d = complete(differences)
    informative = d != 0
    if len(d) < LEAST_PAIRS or informative.sum() < LEAST_INFORMATIVE:
        return float("nan")
    if informative.sum() <= EXACT_PAIRS:
        # ranks of ties are multiples of 0.5; doubling makes them whole numbers
        ranks = np.round(2 * stats.rankdata(np.abs(d))[informative]).astype(np.int64)
        return _sign_flip_p(ranks, int(ranks[d[informative] > 0].sum()))
    return float(stats.wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue)


def informative_pairs(differences: FloatArray) -> int:
    """Count the pairs that differ; equal pairs carry no information on which arm is better."""
    return int(np.count_nonzero(complete(differences)))


def _sign_flip_p(ranks: NDArray[np.int64], observed: int) -> float:
    """Return the share of all sign flips whose sum of positive ranks is as far from its mean as `observed`."""
    share = np.zeros(int(ranks.sum()) + 1)
    share[0] = 1.0
    reached = 0
    for rank in ranks:
        reached += int(rank)
        # each pair splits the counts: if negative, the sum stays; if positive, it grows by the rank
        share[: reached + 1] = (share[: reached + 1] + np.pad(share[: reached + 1 - rank], (rank, 0))) / 2
    lower = min(observed, len(share) - 1 - observed)
    return float(min(1.0, 2 * share[: lower + 1].sum()))


def holm(p_values: FloatArray) -> FloatArray:
    """Adjust p-values of one family by Holm's step-down rule; NaN stay NaN and don't count.

    References
    ----------
    Holm, Scand J Stat 1979, 6:65.
    """
    p = np.asarray(p_values, float)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors)) if len(order) else []
    return adjusted


def rank_biserial(differences: FloatArray) -> float:
    """Matched-pairs rank-biserial correlation, -1 ... 1; zeros are left out; 0 if all differences are zero.

    References
    ----------
    Kerby, Comprehensive Psychology 2014, 3:11.IT.3.1.
    """
    d = complete(differences)
    if not len(d):
        return float("nan")
    d = d[d != 0]
    if not len(d):
        return 0.0
    ranks = stats.rankdata(np.abs(d))
    return float((ranks * np.sign(d)).sum() / ranks.sum())


@dataclass(frozen=True)
class CorrectedTest:
    """Mean difference over folds with the variance corrected for shared training data."""

    mean: float
    low: float
    high: float
    t: float
    p: float
    folds: int


def nadeau_bengio(
    fold_differences: FloatArray, *, test_train_ratio: float, centre: float | None = None, level: float = 0.95
) -> CorrectedTest:
    """Corrected resampled t-test on the mean difference of each fold.

    t = mean / sqrt((1 / k + n_test / n_train) s²) with k - 1 degrees of freedom.

    Parameters
    ----------
    test_train_ratio : validation cases divided by training cases of a fold
    centre : centre of the interval; default: the mean of the folds, which differs from the mean over subjects if folds have
        different sizes

    References
    ----------
    Nadeau & Bengio, Machine Learning 2003, 52:239.
    """
    d = fold_differences[np.isfinite(fold_differences)]
    k = len(d)
    nan = float("nan")
    if k < 2:
        return CorrectedTest(float(d.mean()) if k else nan, nan, nan, nan, nan, k)
    mean = float(d.mean()) if centre is None else centre
    error = float(np.sqrt((1 / k + test_train_ratio) * d.var(ddof=1)))
    if error == 0:
        return CorrectedTest(mean, mean, mean, nan, 1.0 if mean == 0 else nan, k)
    t = mean / error
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * error
    return CorrectedTest(mean, mean - half, mean + half, t, float(2 * stats.t.sf(abs(t), k - 1)), k)
