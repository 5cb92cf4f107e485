"""Folds and seeds whose networks stand out, such as collapsed trainings, which chance in the subjects doesn't explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.metrics import PRIMARY
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.spread import LEAST_FOLD, outlying_groups
from nnunet_transfer.comparison.statistics import FloatArray
from nnunet_transfer.words import joined

#: smallest relevant distance between the mean Dice of a seed in a fold and that of the other seeds
LEAST_SEED = 0.1


@dataclass(frozen=True)
class Outlier:
    """A fold of an arm, or one seed of it, whose mean score stands out.

    Attributes
    ----------
    seed : None if all seeds of the fold stand out
    mean, others : mean score over the subjects of the fold, and over the arm's other folds (for a seed: its other seeds)
        that don't stand out
    """

    arm: str
    fold: int
    seed: int | None
    mean: float
    others: float


def odd_ones(means: Mapping[int, float], outlying: Sequence[int]) -> list[int]:
    """Return the groups to check, given that some stand out.

    These are the outlying groups, unless the others scored less than half as much: then most of the trainings failed. If all
    groups stand out, as with two groups, return those with the lower scores.

    Parameters
    ----------
    means : group -> mean score, of all groups
    outlying : the groups whose means lie far from the median of all
    """
    others = [name for name in means if name not in outlying]
    if not others:
        middle = (min(means.values()) + max(means.values())) / 2
        return [name for name, mean in means.items() if mean < middle]
    failed = np.mean([means[name] for name in others]) < np.mean([means[name] for name in outlying]) / 2
    return others if failed else list(outlying)


def find_outliers(scores: Scores, arms: Sequence[Arm], pairs: Sequence[tuple[Arm, Arm]]) -> tuple[Outlier, ...]:
    """Find the folds and seeds that stand out in Dice, by the scores of an arm and by its differences from its baseline."""
    wide = scores.per_subject.pivot(index=["subject", "fold"], columns="arm", values=PRIMARY)
    folds = wide.index.get_level_values("fold").to_numpy(int)
    # folds without scores are left out
    means: dict[str, dict[int, float]] = {arm.name: _fold_means(wide[arm.name].dropna()) for arm in arms}
    odd: dict[str, set[int]] = {arm.name: set() for arm in arms}
    for arm in arms:
        if outlying := outlying_groups(wide[arm.name].to_numpy(float), folds, LEAST_FOLD):
            odd[arm.name] |= set(odd_ones(means[arm.name], outlying))
    for arm, baseline in pairs:
        difference = (wide[arm.name] - wide[baseline.name]).to_numpy(float)
        known = odd[arm.name] | odd[baseline.name]
        if outlying := outlying_groups(difference, folds, LEAST_FOLD):
            # the arm whose scores vary more between folds
            culprit = max((arm.name, baseline.name), key=lambda name: np.ptp(list(means[name].values())))
            odd[culprit] |= set(odd_ones(means[culprit], outlying)) - known
    found = []
    for arm in arms:
        rest = wide.loc[~np.isin(folds, list(odd[arm.name])), arm.name].mean()
        found += [Outlier(arm.name, fold, None, means[arm.name][fold], rest) for fold in sorted(odd[arm.name])]
        found += _outlying_seeds(scores, arm.name)
    return tuple(found)


def named_folds(folds: Sequence[int]) -> str:
    """Return folds as the beginning of a sentence: "Fold 2", "Folds 0 and 2"."""
    return f"Fold{'s' if len(folds) > 1 else ''} {joined(folds)}"


def _fold_means(values: pd.Series) -> dict[int, float]:
    by_fold = values.groupby(level="fold").mean()
    return dict(zip(by_fold.index.to_numpy(int).tolist(), by_fold.tolist(), strict=True))


def _outlying_seeds(scores: Scores, arm: str) -> list[Outlier]:
    """Find the seeds of single folds that stand out from the arm's other seeds on the same subjects."""
    own = scores.per_run[scores.per_run["arm"] == arm]
    wide = own.assign(seed=seed_numbers(own)).pivot(index=["subject", "fold"], columns="seed", values=PRIMARY).dropna()
    seeds, folds = wide.columns.to_numpy(int), wide.index.get_level_values("fold").to_numpy(int)
    values = wide.to_numpy(float)
    if len(seeds) < 2 or not len(values):
        return []
    # one group per fold and seed
    names = np.unique(folds)
    groups = np.searchsorted(names, folds)[:, None] * len(seeds) + np.arange(len(seeds))
    away = values - np.median(values, axis=1, keepdims=True)
    outlying = outlying_groups(away.ravel(), groups.ravel(), LEAST_SEED)
    found = []
    for place, fold in enumerate(names.tolist()):
        means = dict(enumerate(values[folds == fold].mean(axis=0).tolist()))
        columns = [group % len(seeds) for group in outlying if group // len(seeds) == place]
        for column in odd_ones(means, columns) if columns else ():
            rest = [mean for other, mean in means.items() if other not in odd_ones(means, columns)]
            found.append(Outlier(arm, fold, int(seeds[column]), means[column], float(np.mean(rest))))
    return found


#: stands for a run without a seed in its name
NO_SEED = -1


def seed_numbers(runs: pd.DataFrame) -> NDArray[np.int64]:
    """Return the seed of each run, `NO_SEED` if its name has none."""
    return runs["seed"].fillna(NO_SEED).to_numpy(np.int64)


def fold_table(
    scores: Scores, arms: Sequence[Arm], baselines: Mapping[str, str], outliers: Sequence[Outlier]
) -> pd.DataFrame:
    """Return the mean Dice over the subjects of each fold: one row per arm and fold, and per seed if there are several.

    `difference` is the difference from the arm's baseline in the same fold, over all seeds; `outlier` marks folds and seeds
    that stand out.
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
            both = (own - wide[baseline].to_numpy(float))[inside]
            # a fold may have no scored lesion
            known = baseline != arm.name and np.isfinite(both).any()
            difference = float(np.nanmean(both)) if known else float("nan")
            add(arm, fold, None, own[inside], difference)
            of_fold = np.unique(seeds[run_folds == fold]).tolist()
            for seed in of_fold if len(of_fold) > 1 else ():
                chosen = (run_folds == fold) & (seeds == seed)
                add(arm, fold, seed, runs[PRIMARY].to_numpy(float)[chosen], float("nan"))
    return pd.DataFrame(rows)
