"""From scores of cases to the numbers of the report: means, paired differences, tests. No file is read or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.bootstrap import make_clusters
from nnunet_transfer.comparison.curves import learning_curves
from nnunet_transfer.comparison.lesions import pooled_detection, size_sensitivity
from nnunet_transfer.comparison.paired import Scores, Settings, add_procedure, every_pair, paired_table
from nnunet_transfer.comparison.ranking import rank_stability
from nnunet_transfer.comparison.recipe_choice import recipe_table
from nnunet_transfer.comparison.results import Arm, Run, Target
from nnunet_transfer.comparison.statistics import FEW_SUBJECTS, LEAST_PAIRS, holm
from nnunet_transfer.comparison.volumes import volume_agreement
from nnunet_transfer.evaluation.mean_iou import mean_iou
from nnunet_transfer.evaluation.protocols import LesionProtocol
from nnunet_transfer.evaluation.scores import DETECTION_FIELDS

#: the metric of the declared family of tests
PRIMARY = "dice"
#: tables of a `TargetResult` that are written as files
TABLES = (
    "cases",
    "lesions",
    "summary",
    "tests",
    "pairs",
    "ranks",
    "detection",
    "sizes",
    "volumes",
    "curves",
    "recipes",
)


@dataclass(frozen=True)
class TargetResult:
    """All numbers of one target.

    Attributes
    ----------
    target, arms, runs, baseline : what was compared; `baseline` is an arm's name. Arms trained on fewer cases than
        the baseline are in `cases`, `lesions` and `curves` only
    protocols : lesion protocols
    settings : of intervals and probabilities
    cases : one row per run, case and label
    lesions : one row per run, case, protocol and reference lesion
    per_case : one row per arm and case: mean over labels, then over seeds
    summary : one row per arm: n, means, medians
    tests : one row per arm but the baseline and per metric: paired difference with interval, p, effect size
    pairs : one row per pair of arms: the same on the primary metric
    ranks : one row per arm: rank, its interval, and how often it takes each rank
    detection : one row per protocol and arm: detection pooled over cases
    sizes : one row per protocol, arm and stratum of lesion size: sensitivity
    volumes : one row per label and arm: agreement of volumes
    curves : one row per arm and number of training cases; empty if there is one number only
    recipes : one row per arm, with its recipe chosen on other folds; empty if no arm has several
    notices : sentences for the head of the report
    """

    target: Target
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    baseline: str
    protocols: tuple[LesionProtocol, ...]
    settings: Settings
    cases: pd.DataFrame
    lesions: pd.DataFrame
    per_case: pd.DataFrame
    summary: pd.DataFrame
    tests: pd.DataFrame
    pairs: pd.DataFrame
    ranks: pd.DataFrame
    detection: pd.DataFrame
    sizes: pd.DataFrame
    volumes: pd.DataFrame
    curves: pd.DataFrame
    recipes: pd.DataFrame
    notices: tuple[str, ...]

    @property
    def n_cases(self) -> int:
        """Number of compared cases."""
        return int(self.per_case["case"].nunique())

    @property
    def n_subjects(self) -> int:
        """Number of subjects that they come from."""
        return int(self.per_case["subject"].nunique())

    def title_of(self, arm: str) -> str:
        """Return an arm's title."""
        return next(a.title for a in self.arms if a.name == arm)


def score_columns(protocols: Sequence[LesionProtocol], columns: Sequence[str]) -> list[str]:
    """Return the columns of scores that can be averaged, in the report's order."""
    detection = [f"{p.name}_{field}" for p in protocols for field in DETECTION_FIELDS]
    wanted = ["dice", "iou", "hd95_mm", "nsd", "volume_ref_ml", "volume_pred_ml", *detection]
    return [c for c in wanted if c in columns]


def compared_metrics(protocols: Sequence[LesionProtocol]) -> list[str]:
    """Return the metrics whose differences to the baseline are reported; higher is better in all of them."""
    return [PRIMARY, "iou", *(f"{p.name}_f1" for p in protocols)]


def metric_name(result: TargetResult, metric: str) -> str:
    """Return how the report calls a metric."""
    lesion_wise = {f"{p.name}_f1": f"{p.title} lesion F1" for p in result.protocols}
    return {"dice": "Dice", "iou": "IoU", **lesion_wise}[metric]


def analyse(
    target: Target,
    runs: Sequence[Run],
    baseline: Arm,
    protocols: Sequence[LesionProtocol],
    cases: pd.DataFrame,
    lesions: pd.DataFrame,
    notices: Sequence[str],
    settings: Settings | None = None,
) -> TargetResult:
    """Summarise the scores of one target.

    A case's score is the mean over labels (labels absent from reference and prediction are left out), then over
    seeds. Intervals come from a bootstrap that draws subjects within folds.
    """
    settings = settings or Settings()
    every_arm = tuple(dict.fromkeys(run.arm for run in runs))
    # arms are compared at equal numbers of training cases; the other numbers make the learning curves
    arms = tuple(arm for arm in every_arm if arm.trainer.cases == baseline.trainer.cases)
    names = [arm.name for arm in arms]
    columns = score_columns(protocols, list(cases.columns))
    everything = _average(cases, columns, target)
    per_case = everything.per_case[everything.per_case["arm"].isin(names)].reset_index(drop=True)
    limit = baseline.trainer.cases
    train_sizes = {fold: min(n, limit or n) for fold, n in target.train_sizes.items()}
    scores = replace(everything, per_case=per_case, train_sizes=train_sizes)
    compared = cases[cases["arm"].isin(names)]
    tests = paired_table(
        scores, [(arm, baseline) for arm in arms if arm != baseline], compared_metrics(protocols), settings
    )
    own_lesions = lesions[lesions["arm"].isin(names)]
    return TargetResult(
        target=target,
        arms=arms,
        runs=tuple(run for run in runs if run.arm in arms),
        baseline=baseline.name,
        protocols=tuple(protocols),
        settings=settings,
        cases=cases,
        lesions=lesions,
        per_case=per_case,
        summary=pd.DataFrame([_summarise(arm, per_case, compared, columns) for arm in arms]),
        tests=add_procedure(tests, scores, settings) if len(tests) else tests,
        pairs=every_pair(scores, arms, PRIMARY, settings),
        ranks=_ranks(per_case, arms, settings),
        detection=pooled_detection(compared, arms, protocols, settings),
        sizes=size_sensitivity(own_lesions, arms, settings),
        volumes=volume_agreement(compared, arms, settings),
        curves=learning_curves(everything, every_arm, baseline, PRIMARY, settings),
        recipes=recipe_table(scores, arms, baseline, PRIMARY, settings),
        notices=(*notices, *_warnings(per_case, runs, arms)),
    )


def _average(cases: pd.DataFrame, columns: Sequence[str], target: Target) -> Scores:
    keys = ["arm", "case", "subject", "site", "fold"]
    per_seed = cases.groupby([*keys, "seed"], sort=False, dropna=False)[list(columns)].mean()
    per_case = per_seed.groupby(level=keys, sort=False).mean()
    return Scores(per_seed.reset_index(), per_case.reset_index(), target.train_sizes)


def _warnings(per_case: pd.DataFrame, runs: Sequence[Run], arms: Sequence[Arm]) -> list[str]:
    found = []
    subjects = per_case["subject"].nunique()
    if subjects < LEAST_PAIRS:
        found.append(f"Only {subjects} subjects: no p-values are given.")
    elif subjects < FEW_SUBJECTS:
        found.append(f"Only {subjects} subjects: the tests have little power.")
    seeds = {arm.title: sum(run.arm == arm for run in runs) for arm in arms}
    if len(set(seeds.values())) > 1:
        listed = ", ".join(f"{title} {n}" for title, n in seeds.items())
        found.append(f"The arms have different numbers of seeds, and so of averaging: {listed}.")
    return found


def _summarise(arm: Arm, per_case: pd.DataFrame, cases: pd.DataFrame, columns: Sequence[str]) -> dict[str, object]:
    rows = per_case[per_case["arm"] == arm.name]
    own = cases[cases["arm"] == arm.name]
    miou = mean_iou(own)
    return {
        "arm": arm.name,
        "title": arm.title,
        "source": arm.source or "",
        "n_cases": len(rows),
        "n_subjects": rows["subject"].nunique(),
        "n_seeds": own["seed"].nunique(dropna=False),
        "dice_median": rows["dice"].median(),
        "dice_sd": rows["dice"].std(),
        "miou_over_cases": miou.over_cases,
        "miou_over_classes": miou.over_classes,
        "miou_pooled": miou.pooled,
        **{column: rows[column].mean() for column in columns},
        **{f"n_with_{column}": int(rows[column].notna().sum()) for column in columns},
    }


def _ranks(per_case: pd.DataFrame, arms: Sequence[Arm], settings: Settings) -> pd.DataFrame:
    wide = per_case.pivot(index=["case", "subject", "fold"], columns="arm", values=PRIMARY)
    index = wide.index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
    values = wide[[arm.name for arm in arms]].to_numpy(float)
    found = rank_stability(values, clusters, draws=settings.draws, seed=settings.seed)
    if found is None or len(arms) < 2:
        return pd.DataFrame()
    shares = {f"share_{place + 1}": found.shares[:, place] for place in range(len(arms))}
    return pd.DataFrame(
        {
            "arm": [arm.name for arm in arms],
            "title": [arm.title for arm in arms],
            "n_cases": found.n_cases,
            "rank": found.rank,
            "rank_low": found.low,
            "rank_high": found.high,
            **shares,
            "tau": found.tau,
        }
    )


def adjust_family(results: Sequence[TargetResult]) -> tuple[TargetResult, ...]:
    """Add `p_holm`: the family are all arms against the baseline, on Dice, over all targets; NaN elsewhere."""
    tables = [result.tests.copy() for result in results]
    members: list[Any] = [table["metric"] == PRIMARY if len(table) else [] for table in tables]
    adjusted = holm(
        np.concatenate([table.loc[m, "p"].to_numpy(float) for table, m in zip(tables, members, strict=True)])
    )
    start = 0
    for table, member in zip(tables, members, strict=True):
        table["p_holm"] = np.nan
        count = int(np.sum(member))
        table.loc[member, "p_holm"] = adjusted[start : start + count]
        start += count
    return tuple(replace(result, tests=table) for result, table in zip(results, tables, strict=True))
