"""One verdict per arm, from the printed numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_transfer.comparison.statistics import ALPHA
from nnunet_transfer.words import rounded

BETTER, WORSE, EQUAL, OPEN, FAILED = "better", "worse", "equal", "open", "failed"
#: scope of a verdict: these networks only, or also networks trained again in the same way
NETWORKS_ONLY, PROCEDURE = "networks", "procedure"
#: verdicts use the rounded numbers that a reader sees
PRINTED_DECIMALS = 3


@dataclass(frozen=True)
class Verdict:
    """Verdict on an arm compared with its baseline.

    Attributes
    ----------
    outcome : "better", "worse", "equal" (within the region of practical equivalence), "open", or "failed" for an arm without a
        correct voxel in any case
    scope : "procedure" if it also holds for networks trained again, otherwise "networks"; empty for "open" and "failed"
    """

    outcome: str
    scope: str = ""


def judge(row: Mapping[Any, Any], rope: float) -> Verdict:
    """Judge a paired difference.

    Equal: the headline interval of the mean lies within ±rope. Better or worse: adjusted p below 0.05, a headline interval
    on one side of zero, and an effect size of the same sign. An arm that meets both is called equal: its difference is real,
    but too small to matter.

    Parameters
    ----------
    row : `headline_low`, `headline_high`, `procedure_low`, `procedure_high`, `p_holm`, `rank_biserial`
    """
    if _within(row, "headline", rope):
        return Verdict(EQUAL, PROCEDURE if _within(row, "procedure", rope) else NETWORKS_ONLY)
    outcome = direction(row)
    if outcome == BETTER:
        return Verdict(BETTER, PROCEDURE if printed(row["procedure_low"]) > 0 else NETWORKS_ONLY)
    if outcome == WORSE:
        return Verdict(WORSE, PROCEDURE if printed(row["procedure_high"]) < 0 else NETWORKS_ONLY)
    return Verdict(OPEN)


def direction(row: Mapping[Any, Any]) -> str:
    """Return "better" or "worse" if test and interval show a difference in the same direction, otherwise "open".

    Parameters
    ----------
    row : `headline_low`, `headline_high`, `p_holm`, `rank_biserial`; of a metric that is better if higher
    """
    if printed(row["p_holm"]) < ALPHA:
        # the test compares ranks, the interval means: both have to point the same way
        if printed(row["headline_low"]) > 0 and row["rank_biserial"] > 0:
            return BETTER
        if printed(row["headline_high"]) < 0 and row["rank_biserial"] < 0:
            return WORSE
    return OPEN


def printed(value: float) -> float:
    """Return a number as it is printed."""
    return rounded(value, PRINTED_DECIMALS)


def _within(row: Mapping[Any, Any], interval: str, rope: float) -> bool:
    return -rope <= printed(row[f"{interval}_low"]) and printed(row[f"{interval}_high"]) <= rope
