"""What resampling of subjects within folds can't see: a fold whose networks failed widens every interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nnunet_transfer.comparison.bootstrap import Clusters, FloatArray, Intervals
from nnunet_transfer.comparison.statistics import nadeau_bengio

#: a group of subjects stands out if chance gives such a mean in one of a thousand comparisons
OUTLIER_LEVEL = 0.001
#: and if it lies this far from the others, in a score from 0 to 1
LEAST_FOLD = 0.05
#: what an interval covers: other subjects of the networks at hand, or also the spread between folds
NETWORKS, FOLDS = "these networks", "folds vary"


def outlying_groups(values: FloatArray, groups: NDArray[np.int64], least: float = 0.0) -> list[int]:
    """Return the groups whose mean is no chance of the subjects that are in it.

    A group's mean is held against the median of all groups' means, with the spread within groups. Where half of the groups
    lie apart, all are returned.

    Parameters
    ----------
    values : one per subject, shape (n,); NaN are left out
    groups : e.g. the fold of each, shape (n,)
    least : smallest distance that matters
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
    """Return the interval of a mean that the spread between folds widens, see `nadeau_bengio`.

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
    """Return the smallest interval that covers all that are known."""
    known = [i for i in intervals if np.isfinite(i).all()]
    return (min(i[0] for i in known), max(i[1] for i in known)) if known else (float("nan"), float("nan"))


def clipped(interval: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    """Return the interval's part that a quantity from `low` to `high` can take; NaN stays NaN."""
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
    """Widen intervals of sum(numerator) / sum(denominator) where a fold stands out that resampling within folds can't see.

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
        # what each subject says of the ratio: for a mean, its value
        part, whole = numerator[:, i], np.where(counted, denominator[:, i], np.nan)
        pull = estimate + (part - estimate * whole) / np.nanmean(whole)
        if outlying_groups(pull, clusters.strata, LEAST_FOLD if share else 0.0):
            wide = hull((low[i], high[i]), fold_interval(pull, clusters.strata, ratios))
            low[i], high[i] = clipped(wide, 0.0, 1.0) if share else wide
            kinds[i] = FOLDS
    return Intervals(found.estimate, low, high, found.method), tuple(kinds)
