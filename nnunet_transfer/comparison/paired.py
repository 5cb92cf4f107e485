"""Paired differences between arms, subject by subject, with intervals, tests and effect sizes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.bootstrap import FloatArray, make_clusters, mean_intervals
from nnunet_transfer.comparison.folds import FOLDS, LEAST_FOLD, NETWORKS, fold_interval, outlying_groups
from nnunet_transfer.comparison.metrics import metric_of
from nnunet_transfer.comparison.procedure import procedure_interval
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.statistics import holm, informative_pairs, rank_biserial, wilcoxon_p
from nnunet_transfer.comparison.verdicts import judge
from nnunet_transfer.evaluation.protocols import LesionProtocol

#: columns of every table of differences; there even where no pair is
COLUMNS = (
    *("arm", "title", "compared_with", "compared_with_title", "metric", "n_cases", "n_subjects", "n_informative"),
    *("mean", "mean_baseline", "difference", "low", "high", "interval"),
    *("headline_low", "headline_high", "headline", "rank_biserial", "p"),
)


def paired_table(
    scores: Scores,
    pairs: Sequence[tuple[Arm, Arm]],
    metrics: Sequence[str],
    settings: CompareSettings,
    protocols: Sequence[LesionProtocol] = (),
) -> pd.DataFrame:
    """Compare pairs of arms subject by subject: one row per metric and pair, positive where the first arm is higher.

    Everything in a row is about the same subjects: those with a score in both arms. `difference` is `mean` minus
    `mean_baseline`. `low` and `high` are an interval over subjects within folds; `headline_low` and `headline_high` the one
    to quote, which is wider where a fold stands out that resampling within folds can't see.
    """
    rows = [(metric, first, second) for metric in metrics for first, second in pairs]
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    wide = {m: scores.per_subject.pivot(index=["subject", "fold"], columns="arm", values=m) for m in metrics}
    cases = {m: scores.per_case.pivot(index="case", columns="arm", values=m) for m in metrics}
    differences = np.stack([(wide[m][a.name] - wide[m][b.name]).to_numpy(float) for m, a, b in rows], axis=1)
    index = wide[metrics[0]].index.to_frame()
    folds = index["fold"].to_numpy(int)
    clusters = make_clusters(list(index["subject"]), folds)
    intervals = mean_intervals(differences, clusters, draws=settings.draws, seed=settings.seed)
    table = []
    for i, (metric, first, second) in enumerate(rows):
        d = differences[:, i]
        paired = np.isfinite(d)
        both = wide[metric][[first.name, second.name]].to_numpy(float)[paired]
        means = both.mean(axis=0) if len(both) else np.full(2, np.nan)
        networks = (float(intervals.low[i]), float(intervals.high[i]))
        low, high, kind = _headline(d, folds, scores, networks, metric_of(metric, protocols).share)
        table.append(
            (
                first.name,
                first.title,
                second.name,
                second.title,
                metric,
                int((cases[metric][first.name].notna() & cases[metric][second.name].notna()).sum()),
                int(paired.sum()),
                informative_pairs(d),
                *means,
                intervals.estimate[i],
                intervals.low[i],
                intervals.high[i],
                intervals.method[i],
                low,
                high,
                kind,
                rank_biserial(d),
                wilcoxon_p(d),
            )
        )
    return pd.DataFrame(table, columns=list(COLUMNS))


def _headline(
    differences: FloatArray,
    folds: np.ndarray,
    scores: Scores,
    networks: tuple[float, float],
    share: bool,
) -> tuple[float, float, str]:
    """Return the interval to quote, and what it covers: the networks at hand, or also the spread between folds."""
    if not outlying_groups(differences, folds, LEAST_FOLD if share else 0.0):
        return (*networks, NETWORKS)
    low, high = hull(networks, fold_interval(differences, folds, scores.train_sizes, scores.test_sizes))
    if share:
        low, high = max(low, -1.0), min(high, 1.0)
    return low, high, FOLDS


def hull(*intervals: tuple[float, float]) -> tuple[float, float]:
    """Return the smallest interval that covers all that are known."""
    known = [i for i in intervals if np.isfinite(i).all()]
    return (min(i[0] for i in known), max(i[1] for i in known)) if known else (float("nan"), float("nan"))


def add_procedure(
    table: pd.DataFrame, scores: Scores, metrics: Collection[str], unsteady: Collection[str], settings: CompareSettings
) -> pd.DataFrame:
    """Add to a table of paired differences the interval for arms that are trained again, see `procedure_interval`.

    Parameters
    ----------
    metrics : the metrics that it is computed for; the others have none
    unsteady : arms with a seed that stands out, whose headline interval has to cover that
    """
    table = table.copy()
    for column in ("procedure_low", "procedure_high", "procedure_p"):
        table[column] = np.nan
    table["procedure"] = ""
    for i, row in table.iterrows():
        if row["metric"] not in metrics:
            continue
        found = procedure_interval(scores, row["arm"], row["compared_with"], row["metric"], settings)
        table.loc[i, ["procedure_low", "procedure_high", "procedure_p"]] = [found.low, found.high, found.p]
        table.loc[i, "procedure"] = found.method
        if row["headline"] == FOLDS or {row["arm"], row["compared_with"]} & set(unsteady):
            low, high = hull((row["headline_low"], row["headline_high"]), (found.low, found.high))
            table.loc[i, ["headline_low", "headline_high"]] = [low, high]
            table.loc[i, "headline"] = FOLDS
    return table


def every_pair(scores: Scores, arms: Sequence[Arm], metric: str, settings: CompareSettings) -> pd.DataFrame:
    """Compare all arms with each other on one metric; `p_holm` is adjusted for all pairs of this target."""
    pairs = [(first, second) for i, first in enumerate(arms) for second in arms[i + 1 :]]
    table = paired_table(scores, pairs, [metric], settings)
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


def add_verdicts(table: pd.DataFrame, primary: str, settings: CompareSettings) -> pd.DataFrame:
    """Add `verdict` and `scope` to the rows of the primary metric, see `judge`; empty elsewhere."""
    rows = table.to_dict("records")
    found = [judge(row, settings.rope) if row["metric"] == primary else None for row in rows]
    return table.assign(verdict=[v.outcome if v else "" for v in found], scope=[v.scope if v else "" for v in found])
