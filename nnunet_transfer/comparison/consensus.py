"""Consensus ranking of the arms over several targets."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nnunet_transfer.comparison.analysis import TargetResult


def consensus(results: Sequence[TargetResult]) -> pd.DataFrame:
    """Rank the arms that were trained on all targets by their mean rank, with equal weight for every target.

    Returns
    -------
    DataFrame
        One row per arm, best first: its title, its rank on each target among these arms (one column per target, named by
        its title), the mean rank, and its place. Tied arms share the mean of their places. Empty for fewer than two
        targets or arms.

    References
    ----------
    Wiesenfarth et al., Sci Rep 2021, 11:2369 (consensus of rankings over tasks); the mean of ranks is Borda's count.
    """
    ranked = [result.ranks.set_index("arm")["rank"] for result in results if len(result.ranks)]
    if len(ranked) < 2 or len(ranked) < len(results):
        return pd.DataFrame()
    shared = [arm.name for arm in results[0].arms if all(arm.name in ranks.index for ranks in ranked)]
    if len(shared) < 2:
        return pd.DataFrame()
    columns = {result.target.title: ranks.loc[shared].rank() for result, ranks in zip(results, ranked, strict=True)}
    table = pd.DataFrame(columns)
    mean = table.mean(axis=1)
    table = table.assign(mean_rank=mean, place=mean.round(9).rank())
    table.insert(0, "title", [results[0].title_of(name) for name in shared])
    table.index.name = "arm"
    return table.sort_values("place", kind="stable").reset_index()
