"""Paired statistics on differences between two arms: pure functions of numpy arrays."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

#: with fewer pairs the smallest two-sided p of the signed-rank test is above 0.03: no p-value is given
LEAST_PAIRS = 6
#: below this number of subjects a report warns that a test has little power
FEW_SUBJECTS = 20
#: differences are rounded to this many decimals, so that equal scores computed in two ways tie
DECIMALS = 10
DEFAULT_ROPE = 0.01


def complete(differences: FloatArray) -> FloatArray:
    """Return the finite differences, rounded so that rounding errors don't break ties."""
    return np.round(differences[np.isfinite(differences)], DECIMALS)


def wilcoxon_p(differences: FloatArray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test with Pratt's handling of zeros; NaN for fewer than 6 pairs.

    References
    ----------
    Wilcoxon, Biometrics Bulletin 1945, 1:80; Pratt, J Am Stat Assoc 1959, 54:655.
    """
    d = complete(differences)
    if len(d) < LEAST_PAIRS:
        return float("nan")
    if not d.any():
        return 1.0
    with warnings.catch_warnings():
        # scipy warns of small samples with ties; the report says n beside every p
        warnings.simplefilter("ignore")
        return float(stats.wilcoxon(d, zero_method="pratt").pvalue)


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
class Probabilities:
    """Posterior probabilities that the first arm is better, practically equivalent, or worse; they sum to 1."""

    better: float
    equivalent: float
    worse: float


def rope_probabilities(
    differences: FloatArray, *, rope: float = DEFAULT_ROPE, draws: int = 10_000, seed: int = 0
) -> Probabilities:
    """Bayesian signed-rank test with a region of practical equivalence.

    Each draw weights the pairs, and one pseudo-pair without difference of prior strength 0.5, by a Dirichlet
    distribution and asks which of the regions > rope, within ±rope, < -rope holds most of the weight of the pairs' averages
    (d_i + d_j) / 2. With sorted differences that weight is a cumulative sum: n log n instead of n².

    Parameters
    ----------
    differences : first arm minus second, positive where the first is better

    References
    ----------
    Benavoli et al., J Mach Learn Res 2017, 18(77):1 (section 4.2).
    """
    finite = complete(differences)
    if not len(finite):
        return Probabilities(float("nan"), float("nan"), float("nan"))
    d = np.append(finite, 0.0)
    alpha = np.append(np.ones(len(finite)), 0.5)
    order = np.argsort(d, kind="stable")
    d, alpha = d[order], alpha[order]
    slack = 10.0**-DECIMALS
    # partners j of i with (d_i + d_j) / 2 > rope, and < -rope
    first_above = np.searchsorted(d, 2 * rope - d + slack, side="right")
    end_below = np.searchsorted(d, -2 * rope - d - slack, side="left")
    rng = np.random.default_rng(seed)
    wins = np.zeros(3)
    block = max(1, 2_000_000 // len(d))
    for start in range(0, draws, block):
        weights = rng.dirichlet(alpha, size=min(block, draws - start))
        cumulative = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
        above = (weights * (cumulative[:, -1:] - cumulative[:, first_above])).sum(1)
        below = (weights * cumulative[:, end_below]).sum(1)
        within = cumulative[:, -1] ** 2 - above - below
        # ties go to the region of equivalence
        wins += np.bincount(np.argmax(np.stack([within, above, below], 1), axis=1), minlength=3)
    wins /= draws
    return Probabilities(float(wins[1]), float(wins[0]), float(wins[2]))


@dataclass(frozen=True)
class CorrectedTest:
    """Mean difference over folds with the variance corrected for shared training data."""

    mean: float
    low: float
    high: float
    t: float
    p: float
    folds: int


def nadeau_bengio(fold_differences: FloatArray, *, test_train_ratio: float, level: float = 0.95) -> CorrectedTest:
    """Corrected resampled t-test on the mean difference of each fold.

    t = mean / sqrt((1 / k + n_test / n_train) s²) with k - 1 degrees of freedom.

    Parameters
    ----------
    test_train_ratio : validation cases divided by training cases of a fold

    References
    ----------
    Nadeau & Bengio, Machine Learning 2003, 52:239.
    """
    d = fold_differences[np.isfinite(fold_differences)]
    k = len(d)
    nan = float("nan")
    if k < 2:
        return CorrectedTest(float(d.mean()) if k else nan, nan, nan, nan, nan, k)
    mean = float(d.mean())
    error = float(np.sqrt((1 / k + test_train_ratio) * d.var(ddof=1)))
    if error == 0:
        return CorrectedTest(mean, mean, mean, nan, 1.0 if mean == 0 else nan, k)
    t = mean / error
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * error
    return CorrectedTest(mean, mean - half, mean + half, t, float(2 * stats.t.sf(abs(t), k - 1)), k)
