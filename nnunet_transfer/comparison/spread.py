"""Intervals that cover the spread between folds, which resampling subjects within folds can't capture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nnunet_transfer.comparison.bootstrap import Clusters, FloatArray, Intervals
from nnunet_transfer.comparison.statistics import nadeau_bengio

#: a group stands out if chance gives such a mean in at most one of a thousand comparisons
OUTLIER_LEVEL = 0.001
#: and if it differs from the others by more than this, for scores from 0 to 1
LEAST_FOLD = 0.05
#: what an interval covers: subjects only, for the networks at hand, or also the spread between folds, or between trainings
NETWORKS, FOLDS, TRAININGS = "these networks", "folds vary", "trainings vary"


def outlying_groups(values: FloatArray, groups: NDArray[np.int64], least: float = 0.0) -> list[int]:
    """Return the groups whose mean is not explained by chance in the choice of subjects.

    The mean of each group is compared with the median of all group means by a t-test with the pooled spread within groups
    and Bonferroni adjustment. If the groups split into two halves, all are returned.

    Parameters
    ----------
    values : one value per subject, shape (n,); NaN are left out
    groups : group of each subject, such as its fold, shape (n,)
    least : smallest relevant distance
    """
    finite = np.isfinite(values)
    values, groups = values[finite], groups[finite]
    names, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    freedom = len(values) - len(names)
    if len(names) < 2 or freedom < 2:
        return []
    means = np.bincount(index, values) / counts
    spread = np.sqrt(((values - means[index]) ** 2).sum() / freedom)
    distance = np.abs(means - np.median(means))
    error = spread * np.sqrt(1 / counts + 1 / (len(values) - counts))
    limit = stats.t.isf(OUTLIER_LEVEL / 2 / len(names), freedom) * error
    found = (distance > limit) & (distance > max(least, 1e-9))
    return [int(name) for name in names[found]]


def fold_interval(values: FloatArray, folds: NDArray[np.int64], ratios: Mapping[int, float]) -> tuple[float, float]:
    """Return an interval of the mean that includes the spread between folds, see `nadeau_bengio`.

    Parameters
    ----------
    values, folds : of the subjects, shape (n,); NaN are left out
    ratios : fold -> validation cases divided by training cases
    """
    finite = np.isfinite(values)
    names = np.unique(folds[finite])
    means = np.array([values[finite & (folds == k)].mean() for k in names])
    ratio = float(np.mean([ratios[int(k)] for k in names]))
    test = nadeau_bengio(means, test_train_ratio=ratio, centre=float(values[finite].mean()))
    return test.low, test.high


def hull(*intervals: tuple[float, float]) -> tuple[float, float]:
    """Return the smallest interval that covers all finite intervals."""
    known = [i for i in intervals if np.isfinite(i).all()]
    return (min(i[0] for i in known), max(i[1] for i in known)) if known else (float("nan"), float("nan"))


def clipped(interval: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Clip an interval to the range from `low` to `high`; NaN stays NaN."""
    return float(np.clip(interval[0], low, high)), float(np.clip(interval[1], low, high))


def cover_folds(
    found: Intervals,
    numerator: FloatArray,
    denominator: FloatArray,
    clusters: Clusters,
    ratios: Mapping[int, float],
    *,
    share: bool,
) -> tuple[Intervals, tuple[str, ...]]:
    """Widen intervals of sum(numerator) / sum(denominator) if a fold stands out.

    Parameters
    ----------
    found : from `cluster_bootstrap`
    numerator, denominator : sums per cluster, shape (n_clusters, k)
    clusters : their strata are the folds
    ratios : fold -> validation cases divided by training cases
    share : whether the quantities lie between 0 and 1

    Returns
    -------
    intervals : the same estimates
    kinds : for each, `NETWORKS` or `FOLDS`
    """
    low, high, kinds = found.low.copy(), found.high.copy(), [NETWORKS] * len(found.estimate)
    for i, estimate in enumerate(found.estimate):
        counted = denominator[:, i] > 0
        if not np.isfinite(estimate) or not counted.any():
            continue
        # influence of each subject on the ratio; for a mean, its value
        part, whole = numerator[:, i], np.where(counted, denominator[:, i], np.nan)
        pull = estimate + (part - estimate * whole) / np.nanmean(whole)
        if outlying_groups(pull, clusters.strata, LEAST_FOLD if share else 0.0):
            wide = hull((low[i], high[i]), fold_interval(pull, clusters.strata, ratios))
            low[i], high[i] = clipped(wide, 0.0, 1.0) if share else wide
            kinds[i] = FOLDS
    return Intervals(found.estimate, low, high, found.method), tuple(kinds)
