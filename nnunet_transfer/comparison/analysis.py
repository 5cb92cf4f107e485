"""From scores of cases to the numbers of the report: means, paired differences, tests. No file is read or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.bootstrap import DEFAULT_DRAWS, make_clusters, mean_intervals
from nnunet_transfer.comparison.results import Arm, Run, Target
from nnunet_transfer.comparison.statistics import (
    FEW_SUBJECTS,
    LEAST_PAIRS,
    FloatArray,
    holm,
    rank_biserial,
    rope_probabilities,
    wilcoxon_p,
)
from nnunet_transfer.evaluation.protocols import LesionProtocol
from nnunet_transfer.evaluation.scores import DETECTION_FIELDS

#: the metric of the declared family of tests
PRIMARY = "dice"


@dataclass(frozen=True)
class TargetResult:
    """All numbers of one target.

    Attributes
    ----------
    target, arms, runs, baseline : what was compared; `baseline` is an arm's name
    protocols : lesion protocols
    cases : one row per run, case and label
    lesions : one row per run, case, protocol and reference lesion
    per_case : one row per arm and case: mean over labels, then over seeds
    summary : one row per arm: n, means, medians
    tests : one row per arm but the baseline and per metric: paired difference with interval, p, effect size
    notices : sentences for the head of the report
    """

    target: Target
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    baseline: str
    protocols: tuple[LesionProtocol, ...]
    cases: pd.DataFrame
    lesions: pd.DataFrame
    per_case: pd.DataFrame
    summary: pd.DataFrame
    tests: pd.DataFrame
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


def analyse(
    target: Target,
    runs: Sequence[Run],
    baseline: str,
    protocols: Sequence[LesionProtocol],
    cases: pd.DataFrame,
    lesions: pd.DataFrame,
    notices: Sequence[str],
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> TargetResult:
    """Summarise the scores of one target.

    A case's score is the mean over labels (labels absent from reference and prediction are left out), then over
    seeds. Intervals come from a bootstrap that draws subjects within folds.
    """
    arms = tuple(dict.fromkeys(run.arm for run in runs))
    columns = score_columns(protocols, list(cases.columns))
    keys = ["arm", "case", "subject", "site", "fold"]
    per_seed = cases.groupby([*keys, "seed"], sort=False, dropna=False)[columns].mean()
    per_case = per_seed.groupby(level=keys, sort=False).mean().reset_index()
    per_case = per_case.rename(columns={"index": "case"})
    summary = pd.DataFrame([_summarise(arm, per_case, cases, columns) for arm in arms])
    tests = pd.DataFrame(
        [
            _paired_test(arm, baseline, metric, per_case, draws=draws, seed=seed)
            for metric in compared_metrics(protocols)
            for arm in arms
            if arm.name != baseline
        ]
    )
    few = per_case["subject"].nunique()
    warning = [f"Only {few} subjects: the tests have little power."] if few < FEW_SUBJECTS else []
    if few < LEAST_PAIRS:
        warning = [f"Only {few} subjects: no p-values are given."]
    return TargetResult(
        target,
        arms,
        tuple(runs),
        baseline,
        tuple(protocols),
        cases,
        lesions,
        per_case,
        summary,
        tests,
        (*notices, *warning),
    )


def _summarise(arm: Arm, per_case: pd.DataFrame, cases: pd.DataFrame, columns: Sequence[str]) -> dict[str, object]:
    rows = per_case[per_case["arm"] == arm.name]
    of_labels = cases[cases["arm"] == arm.name].groupby("label", sort=False)["iou"].mean()
    return {
        "arm": arm.name,
        "title": arm.title,
        "source": arm.source or "",
        "n_cases": len(rows),
        "n_subjects": rows["subject"].nunique(),
        "n_without_dice": int(rows["dice"].isna().sum()),
        "dice_median": rows["dice"].median(),
        "dice_sd": rows["dice"].std(),
        "miou_over_cases": rows["iou"].mean(),
        "miou_over_classes": of_labels.mean(),
        **{column: rows[column].mean() for column in columns},
    }


def _paired_test(
    arm: Arm, baseline: str, metric: str, per_case: pd.DataFrame, *, draws: int, seed: int
) -> dict[str, object]:
    wide = per_case.pivot(index=["case", "subject", "fold"], columns="arm", values=metric)
    difference = (wide[arm.name] - wide[baseline]).reset_index(name="difference")
    values = difference["difference"].to_numpy(float)
    clusters = make_clusters(list(difference["subject"]), difference["fold"].to_numpy(int))
    interval = mean_intervals(values[:, None], clusters, draws=draws, seed=seed)
    by_subject: FloatArray = clusters.means(values[:, None])[:, 0]
    posterior = rope_probabilities(by_subject, draws=draws, seed=seed)
    return {
        "arm": arm.name,
        "title": arm.title,
        "metric": metric,
        "n_cases": int(np.isfinite(values).sum()),
        "n_subjects": int(np.isfinite(by_subject).sum()),
        "difference": interval.estimate[0],
        "low": interval.low[0],
        "high": interval.high[0],
        "interval": interval.method[0],
        "rank_biserial": rank_biserial(by_subject),
        "p": wilcoxon_p(by_subject),
        "p_better": posterior.better,
        "p_equivalent": posterior.equivalent,
        "p_worse": posterior.worse,
    }


def adjust_family(results: Sequence[TargetResult]) -> tuple[TargetResult, ...]:
    """Add `p_holm`: the family are all arms against the baseline, on Dice, over all targets; NaN elsewhere."""
    from dataclasses import replace

    tables = [result.tests.copy() for result in results]
    members = [table["metric"] == PRIMARY if len(table) else [] for table in tables]
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


def sentence(result: TargetResult) -> str:
    """Say the target's outcome in plain words."""
    best = result.summary.iloc[int(result.summary["dice"].argmax())]
    where = f"{result.n_cases} cases of {result.n_subjects} subjects"
    if not result.summary["dice"].max() > result.summary["dice"].min():
        return f"All arms have the same mean Dice, {best['dice']:.3f} ({where})."
    text = f"{best['title']} had the highest mean Dice, {best['dice']:.3f} ({where})."
    rows = result.tests[(result.tests["metric"] == PRIMARY)] if len(result.tests) else result.tests
    if not len(rows):
        return text
    better = rows[rows["low"] > 0]
    worse = rows[rows["high"] < 0]
    reference = result.title_of(result.baseline)
    if len(better):
        listed = ", ".join(_signed(row) for _, row in better.iterrows())
        text += f" Above {reference} with a 95 % interval that excludes zero: {listed}."
    else:
        text += f" No arm's 95 % interval of the difference to {reference} lies above zero."
    if len(worse):
        text += f" Below {reference}: {', '.join(_signed(row) for _, row in worse.iterrows())}."
    return text


def _signed(row: pd.Series) -> str:
    return f"{row['title']} ({row['difference']:+.3f}, {row['low']:+.3f} to {row['high']:+.3f})"
