"""Folds and seeds whose networks stand out: a training that collapsed is no chance of the subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.metrics import PRIMARY
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.statistics import FloatArray, nadeau_bengio

#: a group of subjects stands out if chance gives such a mean in one of a thousand comparisons
OUTLIER_LEVEL = 0.001
#: and if it lies this far from the others: in a score from 0 to 1, for folds and for seeds of one fold
LEAST_FOLD, LEAST_SEED = 0.05, 0.1
NETWORKS, FOLDS = "these networks", "folds vary"


@dataclass(frozen=True)
class Outlier:
    """A fold of an arm, or one seed of it, whose mean score stands out.

    Attributes
    ----------
    seed : None where all seeds of the fold do
    mean, others : mean score over the fold's subjects, and of the arm's other folds (for a seed: other seeds)
    """

    arm: str
    fold: int
    seed: int | None
    mean: float
    others: float


def outlying_groups(values: FloatArray, groups: NDArray[np.int64], least: float = 0.0) -> list[int]:
    """Return the groups whose mean is no chance of the subjects that are in it.

    A group's mean is held against the median of all groups' means, with the spread within groups.

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
    if len(names) == 2 and found.any():
        # of two, both are as far from their median: the larger difference is the one to look at
        found = np.abs(means) == np.abs(means).max()
    return [int(name) for name in names[found]]


def fold_interval(
    differences: FloatArray, folds: NDArray[np.int64], train_sizes: Mapping[int, int], test_sizes: Mapping[int, int]
) -> tuple[float, float]:
    """Return the interval of a mean difference that the spread between folds widens, see `nadeau_bengio`.

    Parameters
    ----------
    differences, folds : of the subjects, shape (n,)
    """
    finite = np.isfinite(differences)
    names = np.unique(folds[finite])
    means = np.array([differences[finite & (folds == k)].mean() for k in names])
    test = nadeau_bengio(
        means, test_train_ratio=size_ratio(names, train_sizes, test_sizes), centre=float(differences[finite].mean())
    )
    return test.low, test.high


def size_ratio(
    folds: Sequence[int] | NDArray[np.int64], train_sizes: Mapping[int, int], test_sizes: Mapping[int, int]
) -> float:
    """Return the mean over folds of validation cases divided by training cases."""
    return float(np.mean([test_sizes[int(k)] / train_sizes[int(k)] for k in folds]))


def find_outliers(scores: Scores, arms: Sequence[Arm], pairs: Sequence[tuple[Arm, Arm]]) -> tuple[Outlier, ...]:
    """Find the folds and seeds that stand out in Dice, by an arm's own scores and by its differences to its baseline."""
    wide = scores.per_subject.pivot(index=["subject", "fold"], columns="arm", values=PRIMARY)
    folds = wide.index.get_level_values("fold").to_numpy(int)

    def describe(arm: str, fold: int) -> Outlier:
        values = wide[arm].to_numpy(float)
        own = folds == fold
        return Outlier(arm, fold, None, float(np.nanmean(values[own])), float(np.nanmean(values[~own])))

    def distance(arm: str, fold: int) -> float:
        found = describe(arm, fold)
        return abs(found.mean - found.others)

    found: dict[tuple[str, int, int | None], Outlier] = {}
    for arm in arms:
        own = wide[arm.name].to_numpy(float)
        for fold in outlying_groups(own, folds, LEAST_FOLD):
            found[arm.name, fold, None] = describe(arm.name, fold)
        found |= {(o.arm, o.fold, o.seed): o for o in _outlying_seeds(scores, arm.name)}
    for arm, baseline in pairs:
        difference = (wide[arm.name] - wide[baseline.name]).to_numpy(float)
        for fold in outlying_groups(difference, folds, LEAST_FOLD):
            # the one of the two that left its usual score
            culprit = max((arm.name, baseline.name), key=lambda name: distance(name, fold))
            found.setdefault((culprit, fold, None), describe(culprit, fold))
    return tuple(found.values())


def _outlying_seeds(scores: Scores, arm: str) -> list[Outlier]:
    own = scores.per_run[scores.per_run["arm"] == arm]
    wide = own.assign(seed=seed_numbers(own)).pivot(index=["subject", "fold"], columns="seed", values=PRIMARY)
    seeds, folds = wide.columns.to_numpy(int), wide.index.get_level_values("fold").to_numpy(int)
    values = wide.to_numpy(float)
    if len(seeds) < 2:
        return []
    usual = np.nanmedian(values, axis=1, keepdims=True) if len(values) else values
    # one group per fold and seed
    names = np.unique(folds)
    groups = np.searchsorted(names, folds)[:, None] * len(seeds) + np.arange(len(seeds))
    found = []
    for group in outlying_groups((values - usual).ravel(), groups.ravel(), LEAST_SEED):
        fold, column = int(names[group // len(seeds)]), group % len(seeds)
        rows = values[folds == fold]
        mean, others = float(np.nanmean(rows[:, column])), float(np.nanmean(np.delete(rows, column, axis=1)))
        seed = int(seeds[column])
        found.append(Outlier(arm, fold, seed, mean, others))
    # of two seeds both are as far from their median: the lower one is the one to look at
    return [o for o in found if o.mean < o.others] if len(seeds) == 2 else found


#: stands for a run without a seed in its name
NO_SEED = -1


def seed_numbers(runs: pd.DataFrame) -> NDArray[np.int64]:
    """Return the seed of each run, `NO_SEED` where its name has none."""
    return runs["seed"].fillna(NO_SEED).to_numpy(np.int64)


def fold_table(
    scores: Scores, arms: Sequence[Arm], baselines: Mapping[str, str], outliers: Sequence[Outlier]
) -> pd.DataFrame:
    """Return one row per arm, fold and, where there are several, seed: mean Dice over the fold's subjects.

    `difference` is that to the arm's baseline in the same fold, over all seeds; `outlier` marks what stands out.
    """
    marked = {(o.arm, o.fold, o.seed) for o in outliers}
    wide = scores.per_subject.pivot(index=["subject", "fold"], columns="arm", values=PRIMARY)
    folds = wide.index.get_level_values("fold").to_numpy(int)
    rows: list[dict[str, object]] = []

    def add(arm: Arm, fold: int, seed: int | None, values: FloatArray, difference: float) -> None:
        rows.append(
            {
                "arm": arm.name,
                "title": arm.title,
                "fold": fold,
                "seed": "all" if seed is None else "none" if seed == NO_SEED else str(seed),
                "n_subjects": int(np.isfinite(values).sum()),
                PRIMARY: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan"),
                "difference": difference,
                "outlier": (arm.name, fold, seed) in marked,
            }
        )

    for arm in arms:
        own = wide[arm.name].to_numpy(float)
        baseline = baselines.get(arm.name, arm.name)
        runs = scores.per_run[scores.per_run["arm"] == arm.name]
        seeds, run_folds = seed_numbers(runs), runs["fold"].to_numpy(int)
        for fold in np.unique(folds).tolist():
            inside = folds == fold
            difference = float("nan")
            if baseline != arm.name:
                difference = float(np.nanmean(own[inside] - wide[baseline].to_numpy(float)[inside]))
            add(arm, fold, None, own[inside], difference)
            of_fold = np.unique(seeds[run_folds == fold]).tolist()
            for seed in of_fold if len(of_fold) > 1 else ():
                chosen = (run_folds == fold) & (seeds == seed)
                add(arm, fold, seed, runs[PRIMARY].to_numpy(float)[chosen], float("nan"))
    return pd.DataFrame(rows)
