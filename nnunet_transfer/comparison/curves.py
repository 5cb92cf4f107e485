"""Curves: how an arm's score grows with the number of training cases, and with the length of training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.baselines import CASES, LENGTH, families, family, family_title, longest
from nnunet_transfer.comparison.bootstrap import make_clusters, mean_intervals
from nnunet_transfer.comparison.paired import paired_table
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.spread import cover_folds
from nnunet_transfer.comparison.verdicts import printed
from nnunet_transfer.naming import is_ours

_NO_DIFFERENCE = dict.fromkeys(("difference", "difference_low", "difference_high"), float("nan"))


@dataclass(frozen=True)
class Reached:
    """The first length of training after which an arm's mean is at least that of its baseline's longest training.

    Attributes
    ----------
    title : of the arm, without its length and number of cases
    training_cases : of both arms
    iterations : None if no length reaches it
    baseline, baseline_iterations : title and length of the baseline's longest training
    """

    title: str
    training_cases: float
    iterations: int | None
    baseline: str
    baseline_iterations: int


def learning_curves(
    scores: Scores,
    arms: Sequence[Arm],
    baselines: Mapping[Arm, Arm],
    metric: str,
    settings: CompareSettings,
    unsteady: Collection[str] = (),
) -> pd.DataFrame:
    """Return one row per arm and number of training cases; no rows if all arms have the same number.

    Each row has the mean score over subjects and the paired difference from the baseline trained on the same number of
    cases, with the headline interval, see `paired_table`.

    Parameters
    ----------
    baselines : arm -> its baseline with the same number of cases; arms without one get no difference
    """
    if len({arm.trainer.cases for arm in arms}) < 2:
        return pd.DataFrame()
    points = _points(scores, arms, baselines, metric, settings, unsteady)
    rows = []
    for members in families(arms, CASES):
        for arm in sorted(members, key=lambda arm: _training_cases(arm, np.inf)):
            rows.append(
                {
                    **_head(arm, CASES, CASES),
                    "training_cases": _training_cases(arm, _all_cases(scores)),
                    "baseline": baselines[arm].name if arm in baselines else "",
                    **points[arm],
                }
            )
    return pd.DataFrame(rows)


def training_lengths(
    scores: Scores,
    arms: Sequence[Arm],
    baselines: Mapping[Arm, Arm],
    metric: str,
    settings: CompareSettings,
    unsteady: Collection[str] = (),
) -> pd.DataFrame:
    """Return one row per arm and length of training, and for their baselines; no rows if each arm has only one length.

    Each length is a training of its own, whose learning rate falls to its end. Every row has the paired difference from the
    *longest* training of its baseline, on the same number of cases, and `share`, its part of that training's iterations.

    Parameters
    ----------
    baselines : as in `learning_curves`
    """
    ours = [arm for arm in arms if is_ours(arm.trainer.base)]
    several = [members for members in families(ours, LENGTH) if len(members) > 1]
    against = {arm: longest(baseline, arms) for arm, baseline in baselines.items()}
    wanted = {arm for members in several for arm in members}
    wanted |= {against[arm] for arm in wanted if arm in against and against[arm] in ours}
    if not several:
        return pd.DataFrame()
    kept = [arm for arm in ours if arm in wanted]
    points = _points(scores, kept, against, metric, settings, unsteady)
    rows = []
    for members in families(_by_title_and_cases(kept), LENGTH):
        for arm in sorted(members, key=lambda arm: arm.trainer.total_iterations):
            baseline = against.get(arm)
            # the names of other trainers don't state a length
            whole = baseline.trainer.total_iterations if baseline in ours else np.nan
            rows.append(
                {
                    **_head(arm, LENGTH, (*CASES, *LENGTH)),
                    "training_cases": _training_cases(arm, _all_cases(scores)),
                    "iterations": arm.trainer.total_iterations,
                    "share": arm.trainer.total_iterations / whole,
                    "baseline": baseline.name if baseline else "",
                    **points[arm],
                }
            )
    return pd.DataFrame(rows)


def reached(lengths: pd.DataFrame) -> list[Reached]:
    """Return when the arms of `training_lengths` reach the longest training of their baseline, if all lengths have the same."""
    found = []
    by_arm = lengths.set_index("arm").to_dict("index")
    for name, rows in lengths.groupby("family", sort=False):
        baseline = by_arm.get(rows["baseline"].iloc[0])
        if len(rows) < 2 or rows["baseline"].nunique() > 1 or baseline is None or baseline["family"] == name:
            continue
        enough = rows.loc[rows["difference"].map(printed) >= 0, "iterations"]
        found.append(
            Reached(
                str(rows["title"].iloc[0]),
                float(rows["training_cases"].iloc[0]),
                int(enough.min()) if len(enough) else None,
                str(baseline["title"]),
                int(baseline["iterations"]),
            )
        )
    return found


def _points(
    scores: Scores,
    arms: Sequence[Arm],
    baselines: Mapping[Arm, Arm],
    metric: str,
    settings: CompareSettings,
    unsteady: Collection[str],
) -> dict[Arm, dict[str, float]]:
    """Return the mean of each arm and its difference from its baseline, with intervals.

    Where folds stand out, intervals depend on the number of training cases, so arms with the same number are treated together.
    """
    wide = scores.per_subject.pivot(index=["subject", "fold"], columns="arm", values=metric)
    cases = scores.per_case.loc[scores.per_case[metric].notna()].groupby("arm")["case"].nunique()
    index = wide.index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
    found: dict[Arm, dict[str, float]] = {}
    for number in dict.fromkeys(arm.trainer.cases for arm in arms):
        members = [arm for arm in arms if arm.trainer.cases == number]
        sizes = {fold: min(n, number or n) for fold, n in scores.train_sizes.items()}
        of_size = replace(scores, train_sizes=sizes)
        pairs = [(arm, baselines[arm]) for arm in members if baselines.get(arm, arm) != arm]
        paired = paired_table(of_size, pairs, [metric], settings, unsteady=unsteady).set_index("arm")
        values = wide[[arm.name for arm in members]].to_numpy(float)
        means = mean_intervals(values, clusters, draws=settings.draws, seed=settings.seed)
        counted = clusters.sums(np.isfinite(values).astype(float))
        means, _ = cover_folds(means, clusters.sums(values), counted, clusters, of_size.ratios, share=True)
        for i, arm in enumerate(members):
            difference = dict(_NO_DIFFERENCE)
            if arm.name in paired.index:
                row = paired.loc[arm.name]
                difference = dict(
                    zip(difference, row[["difference", "headline_low", "headline_high"]].to_numpy(float), strict=True)
                )
            found[arm] = {
                "n_cases": int(cases.get(arm.name, 0)),
                "n_subjects": int(wide[arm.name].notna().sum()),
                metric: means.estimate[i],
                "low": means.low[i],
                "high": means.high[i],
                **difference,
            }
    return found


def _by_title_and_cases(arms: Sequence[Arm]) -> list[Arm]:
    """Return arms with the same title side by side, those with few training cases first; titles stay in their order."""
    titles = list(dict.fromkeys(family_title(arm, (*CASES, *LENGTH)) for arm in arms))
    return sorted(
        arms, key=lambda arm: (titles.index(family_title(arm, (*CASES, *LENGTH))), _training_cases(arm, np.inf))
    )


def _head(arm: Arm, settings: Sequence[str], untold: Sequence[str]) -> dict[str, str]:
    """Return the columns that name an arm, whose title leaves out the settings of other columns."""
    return {
        "family": family(arm, settings),
        "title": family_title(arm, untold),
        "arm": arm.name,
        "task": arm.task,
        "domain": arm.domain,
    }


def _all_cases(scores: Scores) -> float:
    return float(np.mean(list(scores.train_sizes.values())))


def _training_cases(arm: Arm, everything: float) -> float:
    return everything if arm.trainer.cases is None else float(arm.trainer.cases)
