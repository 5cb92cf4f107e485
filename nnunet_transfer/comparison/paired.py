"""Paired differences between arms, subject by subject, with intervals, tests and effect sizes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.bootstrap import make_clusters, mean_intervals
from nnunet_transfer.comparison.metrics import metric_of
from nnunet_transfer.comparison.procedure import ProcedureInterval, procedure_interval
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.spread import (
    FOLDS,
    LEAST_FOLD,
    NETWORKS,
    TRAININGS,
    clipped,
    fold_interval,
    hull,
    outlying_groups,
)
from nnunet_transfer.comparison.statistics import FloatArray, holm, informative_pairs, rank_biserial, wilcoxon_p
from nnunet_transfer.comparison.verdicts import FAILED, Verdict, judge
from nnunet_transfer.evaluation.protocols import LesionProtocol

PROCEDURE_COLUMNS = ("procedure_low", "procedure_high", "procedure_p", "procedure")
#: columns of every table of differences, also of an empty one
COLUMNS = (
    *("arm", "title", "compared_with", "compared_with_title", "metric", "n_cases", "n_subjects", "n_informative"),
    *("mean", "mean_baseline", "difference", "low", "high", "interval"),
    *("headline_low", "headline_high", "headline", "rank_biserial", "p"),
    *PROCEDURE_COLUMNS,
)


def paired_table(
    scores: Scores,
    pairs: Sequence[tuple[Arm, Arm]],
    metrics: Sequence[str],
    settings: CompareSettings,
    protocols: Sequence[LesionProtocol] = (),
    *,
    unsteady: Collection[str] = (),
    again: Collection[str] = (),
) -> pd.DataFrame:
    """Compare pairs of arms subject by subject: one row per metric and pair, positive where the first arm is higher.

    All values in a row are computed over the subjects with a score in both arms. `difference` is `mean` minus
    `mean_baseline`. `low` and `high` are an interval over subjects within folds. `headline_low` and `headline_high` are the
    interval to quote; it is wider if a fold or a seed stands out, which resampling within folds can't capture.
    `procedure_low` and `procedure_high` apply to arms that are trained again, see `procedure_interval`.

    Parameters
    ----------
    unsteady : arms with a seed that stands out
    again : metrics with an interval for arms that are trained again
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
        networks = (float(intervals.low[i]), float(intervals.high[i]))
        quoted = _quoted(
            networks,
            d,
            folds,
            scores,
            (first.name, second.name),
            metric,
            settings,
            # a share's difference lies between -1 and 1
            limit=1.0 if metric_of(metric, protocols).share else np.inf,
            steady=not {first.name, second.name} & set(unsteady),
            again=metric in again,
        )
        procedure = quoted.procedure if metric in again else ProcedureInterval()
        values = (
            *(first.name, first.title, second.name, second.title, metric),
            int((cases[metric][first.name].notna() & cases[metric][second.name].notna()).sum()),
            *(int(paired.sum()), informative_pairs(d)),
            *(both.mean(axis=0) if len(both) else np.full(2, np.nan)),
            intervals.estimate[i],
            *networks,
            intervals.method[i],
            *(*quoted.interval, quoted.covers),
            *(rank_biserial(d), wilcoxon_p(d)),
            *(procedure.low, procedure.high, procedure.p, procedure.method),
        )
        table.append(values)
    return pd.DataFrame(table, columns=list(COLUMNS))


@dataclass(frozen=True)
class _Quoted:
    """The interval to quote, what it covers, and that for arms that are trained again."""

    interval: tuple[float, float]
    covers: str
    procedure: ProcedureInterval


def _quoted(
    networks: tuple[float, float],
    differences: FloatArray,
    folds: NDArray[np.int64],
    scores: Scores,
    pair: tuple[str, str],
    metric: str,
    settings: CompareSettings,
    *,
    limit: float,
    steady: bool,
    again: bool,
) -> _Quoted:
    """Widen the interval for the networks at hand if a fold or a seed stands out.

    Parameters
    ----------
    limit : largest possible difference
    steady : whether no seed of the pair stands out
    again : whether the interval for arms that are trained again is needed in any case
    """
    apart = bool(outlying_groups(differences, folds, LEAST_FOLD if np.isfinite(limit) else 0.0))
    covers = FOLDS if apart else NETWORKS if steady else TRAININGS
    procedure = ProcedureInterval()
    if again or covers != NETWORKS:
        procedure = procedure_interval(scores, *pair, metric, settings)
        low, high = clipped((procedure.low, procedure.high), -limit, limit)
        procedure = replace(procedure, low=low, high=high)
    interval = networks
    if apart:
        interval = hull(interval, fold_interval(differences, folds, scores.ratios))
    if covers != NETWORKS:
        interval = hull(interval, (procedure.low, procedure.high))
    return _Quoted(clipped(interval, -limit, limit), covers, procedure)


def every_pair(
    scores: Scores, arms: Sequence[Arm], metric: str, settings: CompareSettings, unsteady: Collection[str]
) -> pd.DataFrame:
    """Compare all arms with each other on one metric; `p_holm` is adjusted for all pairs of this target."""
    pairs = [(first, second) for i, first in enumerate(arms) for second in arms[i + 1 :]]
    table = paired_table(scores, pairs, [metric], settings, unsteady=unsteady)
    table = table.drop(columns=list(PROCEDURE_COLUMNS))
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


def add_verdicts(
    table: pd.DataFrame, primary: str, settings: CompareSettings, failed: Collection[str] = ()
) -> pd.DataFrame:
    """Add `verdict` and `scope` to the rows of the primary metric, see `judge`; empty elsewhere.

    Parameters
    ----------
    failed : names of arms without a correct voxel, which aren't judged by their scores
    """
    rows = table.to_dict("records")
    judged = [Verdict(FAILED) if row["arm"] in failed else judge(row, settings.rope) for row in rows]
    found = [verdict if row["metric"] == primary else None for row, verdict in zip(rows, judged, strict=True)]
    return table.assign(verdict=[v.outcome if v else "" for v in found], scope=[v.scope if v else "" for v in found])
