"""Learning curves: how an arm's score grows with the number of training cases (`_<N>cases`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.bootstrap import make_clusters, mean_intervals
from nnunet_transfer.comparison.paired import paired_table
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.spread import cover_folds


def family(arm: Arm) -> str:
    """Return the arm's name without its number of training cases."""
    return arm.name.replace(str(arm.trainer), str(replace(arm.trainer, cases=None)), 1)


def family_title(arm: Arm) -> str:
    """Return the arm's title without its number of training cases."""
    title, _, suffix = arm.title.partition(" (")
    kept = [part for part in suffix.rstrip(")").split(", ") if part and part != f"{arm.trainer.cases}cases"]
    return f"{title} ({', '.join(kept)})" if kept else title


def learning_curves(
    scores: Scores,
    arms: Sequence[Arm],
    baseline: Arm,
    metric: str,
    settings: CompareSettings,
    unsteady: Collection[str] = (),
) -> pd.DataFrame:
    """Return one row per arm and number of training cases; no rows if each arm has only one number.

    Each row has the mean score over subjects and the paired difference from the baseline trained on the same number of
    cases, with the headline interval, see `paired_table`.
    """
    families: dict[str, list[Arm]] = {}
    for arm in arms:
        families.setdefault(family(arm), []).append(arm)
    families = {name: members for name, members in families.items() if len(members) > 1}
    if not families:
        return pd.DataFrame()
    everything = float(np.mean(list(scores.train_sizes.values())))
    baselines = {arm.trainer.cases: arm for arm in arms if family(arm) == family(baseline)}
    members = [arm for group in families.values() for arm in sorted(group, key=_training_cases)]
    pairs = [
        (arm, baselines[arm.trainer.cases])
        for arm in members
        if family(arm) != family(baseline) and arm.trainer.cases in baselines
    ]
    paired = paired_table(scores, pairs, [metric], settings, unsteady=unsteady)
    differences = paired.set_index("arm") if len(paired) else paired
    wide = scores.per_subject.pivot(index=["subject", "fold"], columns="arm", values=metric)
    cases = scores.per_case.loc[scores.per_case[metric].notna()].groupby("arm")["case"].nunique()
    index = wide.index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
    values = wide[[arm.name for arm in members]].to_numpy(float)
    means = mean_intervals(values, clusters, draws=settings.draws, seed=settings.seed)
    counted = clusters.sums(np.isfinite(values).astype(float))
    means, _ = cover_folds(means, clusters.sums(values), counted, clusters, scores.ratios, share=True)
    rows = []
    for i, arm in enumerate(members):
        known = differences.loc[arm.name] if arm.name in differences.index else None
        rows.append(
            {
                "family": family(arm),
                "title": family_title(arm),
                "arm": arm.name,
                "task": arm.task,
                "domain": arm.domain,
                "training_cases": everything if arm.trainer.cases is None else float(arm.trainer.cases),
                "n_cases": int(cases.get(arm.name, 0)),
                "n_subjects": int(wide[arm.name].notna().sum()),
                metric: means.estimate[i],
                "low": means.low[i],
                "high": means.high[i],
                **{
                    f"difference{part}": float("nan") if known is None else known[f"{key}"]
                    for part, key in (("", "difference"), ("_low", "headline_low"), ("_high", "headline_high"))
                },
            }
        )
    return pd.DataFrame(rows)


def _training_cases(arm: Arm) -> float:
    return float("inf") if arm.trainer.cases is None else arm.trainer.cases
