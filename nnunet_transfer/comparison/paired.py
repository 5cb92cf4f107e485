"""Paired differences between arms, with intervals, tests and effect sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.bootstrap import DEFAULT_DRAWS, FloatArray, make_clusters, mean_intervals
from nnunet_transfer.comparison.procedure import procedure_interval
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.statistics import DEFAULT_ROPE, holm, rank_biserial, rope_probabilities, wilcoxon_p


@dataclass(frozen=True)
class Settings:
    """How intervals and probabilities are computed.

    Attributes
    ----------
    draws, seed : of every bootstrap
    rope : half-width of the region of practical equivalence, in the metric's units
    """

    draws: int = DEFAULT_DRAWS
    seed: int = 0
    rope: float = DEFAULT_ROPE


@dataclass(frozen=True)
class Scores:
    """Scores of one target, averaged over labels.

    Attributes
    ----------
    per_seed : one row per arm, case and seed
    per_case : one row per arm and case, averaged over seeds
    train_sizes : fold -> number of training cases that the arms use
    """

    per_seed: pd.DataFrame
    per_case: pd.DataFrame
    train_sizes: Mapping[int, int]


def paired_table(
    scores: Scores, pairs: Sequence[tuple[Arm, Arm]], metrics: Sequence[str], settings: Settings
) -> pd.DataFrame:
    """Compare pairs of arms case by case: one row per metric and pair, positive where the first arm is higher.

    Cases where either arm has no value are left out of that pair; `n_cases` counts those that are left.
    """
    rows = [(metric, first, second) for metric in metrics for first, second in pairs]
    if not rows:
        return pd.DataFrame()
    wide = {m: scores.per_case.pivot(index=["case", "subject", "fold"], columns="arm", values=m) for m in metrics}
    differences = np.stack([(wide[m][a.name] - wide[m][b.name]).to_numpy(float) for m, a, b in rows], axis=1)
    index = wide[metrics[0]].index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
    intervals = mean_intervals(differences, clusters, draws=settings.draws, seed=settings.seed)
    by_subject: FloatArray = clusters.means(differences)
    table = []
    for i, (metric, first, second) in enumerate(rows):
        posterior = rope_probabilities(by_subject[:, i], rope=settings.rope, draws=settings.draws, seed=settings.seed)
        table.append(
            {
                "arm": first.name,
                "title": first.title,
                "compared_with": second.name,
                "metric": metric,
                "n_cases": int(np.isfinite(differences[:, i]).sum()),
                "n_subjects": int(np.isfinite(by_subject[:, i]).sum()),
                "difference": intervals.estimate[i],
                "low": intervals.low[i],
                "high": intervals.high[i],
                "interval": intervals.method[i],
                "rank_biserial": rank_biserial(by_subject[:, i]),
                "p": wilcoxon_p(by_subject[:, i]),
                "p_better": posterior.better,
                "p_equivalent": posterior.equivalent,
                "p_worse": posterior.worse,
            }
        )
    return pd.DataFrame(table)


def add_procedure(table: pd.DataFrame, scores: Scores, settings: Settings) -> pd.DataFrame:
    """Add to a table of paired differences the interval for arms that are trained anew, see `procedure_interval`."""
    found = [
        procedure_interval(
            scores.per_seed,
            row["arm"],
            row["compared_with"],
            row["metric"],
            scores.train_sizes,
            draws=settings.draws,
            seed=settings.seed,
        )
        for _, row in table.iterrows()
    ]
    return table.assign(
        procedure_low=[f.low for f in found],
        procedure_high=[f.high for f in found],
        procedure_p=[f.p for f in found],
        procedure=[f.method for f in found],
    )


def every_pair(scores: Scores, arms: Sequence[Arm], metric: str, settings: Settings) -> pd.DataFrame:
    """Compare all arms with each other on one metric; `p_holm` is adjusted for all pairs of this target."""
    pairs = [(first, second) for i, first in enumerate(arms) for second in arms[i + 1 :]]
    table = paired_table(scores, pairs, [metric], settings)
    return table.assign(p_holm=holm(table["p"].to_numpy(float))) if len(table) else table
