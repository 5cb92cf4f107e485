"""Alternative texts of the figures, written from the tables behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult, metric_name
from nnunet_transfer.comparison.markup import Column, number
from nnunet_transfer.words import counted, verb

#: maximum number of entries in a list
MOST = 14


def dots(result: TargetResult) -> str:
    """Describe the scores of all cases."""
    return "Median Dice of each arm: " + _listed(
        f"{row['title']} {_number(row['dice_median'])}" for _, row in result.summary.iterrows()
    )


def forest(result: TargetResult, metric: str) -> str:
    """Describe the differences from the baseline."""
    rows = result.tests[result.tests["metric"] == metric]
    name = metric_name(result, metric)
    return f"{name}, difference from {result.baseline_title}: " + _listed(
        f"{row['title']} {_interval(row, 'difference', 'headline_low', 'headline_high')}" for _, row in rows.iterrows()
    )


def grid(results: Sequence[TargetResult]) -> str:
    """Describe the differences by source task and domain."""
    parts = []
    for result in results:
        cells = [
            f"{row['task']} on {row['domain']}{f', {panel}' if (panel := row['panel']) else ''} "
            f"{_number(row['difference'], sign=True)}"
            for _, row in result.grid.iterrows()
        ]
        parts.append(f"{result.target.title}: {_capital(_listed(cells))}")
    return "Mean Dice difference from the baseline. " + " ".join(parts)


def significance(result: TargetResult, alpha: float) -> str:
    """Describe the comparison of all pairs."""
    sure = result.pairs[result.pairs["p_holm"] < alpha]
    if not len(sure):
        none = f"None of {len(result.pairs)} pairs of arms differs"
        if len(result.pairs) == 1:
            none = "The only pair of arms doesn't differ"
        return f"{none} with p below {alpha}."
    listed = _listed(
        f"{result.title_of(row['arm'])} minus {result.title_of(row['compared_with'])} {_number(row['difference'], sign=True)}"
        for _, row in sure.iterrows()
    )
    pairs = counted(len(result.pairs), "pair")
    return f"{len(sure)} of {pairs} of arms {verb(len(sure), 'differs', 'differ')} with p below {alpha}: {listed}"


def ranks(result: TargetResult) -> str:
    """Describe the ranks."""
    rows = result.ranks.sort_values("rank", kind="stable")
    return "Ranks by mean Dice: " + _listed(
        f"{row['title']} {row['rank']:g} (95 % interval {row['rank_low']:g} to {row['rank_high']:g})"
        for _, row in rows.iterrows()
    )


def podium(result: TargetResult) -> str:
    """Describe how often each arm comes first for a subject."""
    wide = result.per_subject.pivot(index="subject", columns="arm", values=PRIMARY).dropna()
    first = wide.rank(axis=1, method="min", ascending=False).eq(1)
    # tied arms share the first place
    shares = first.div(first.sum(axis=1), axis=0).mean()
    names = {arm.name: arm.title for arm in result.arms}
    ordered = shares[list(names)].sort_values(ascending=False, kind="stable")
    return f"Share of {counted(len(wide), 'subject')} for which an arm has the highest Dice: " + _listed(
        f"{names[str(arm)]} {100 * share:.0f} %" for arm, share in ordered.items()
    )


def sizes(result: TargetResult, protocol: str) -> str:
    """Describe the detection by lesion size."""
    rows = result.sizes[result.sizes["protocol"] == protocol]
    parts = []
    for stratum, own in rows.groupby("stratum", sort=False):
        best, worst = own.iloc[int(own["sensitivity"].argmax())], own.iloc[int(own["sensitivity"].argmin())]
        most, least = (f"{100 * row['sensitivity']:.0f} %" for row in (best, worst))
        found = f"every arm found {most}"
        if least != most:
            found = (
                f"the arms found {least} ({result.title_of(worst['arm'])}) to {most} ({result.title_of(best['arm'])})"
            )
        parts.append(f"of lesions of {stratum} ml, {found}")
    return f"{_capital('; '.join(parts))}."


def volumes(result: TargetResult, label: str) -> str:
    """Describe the agreement of volumes."""
    rows = result.volumes[result.volumes["label"] == label]
    return f"Bias of the volume of {label} with limits of agreement, in ml: " + _listed(
        f"{row['title']} {_interval(row, 'bias_ml', 'limit_low_ml', 'limit_high_ml', decimals=2)}"
        for _, row in rows.iterrows()
    )


def curves(result: TargetResult) -> str:
    """Describe the learning curves."""
    parts = []
    for _, rows in result.curves.groupby("family", sort=False):
        points = ", ".join(
            f"{_number(row[PRIMARY])} from {counted(int(row['training_cases']), 'case')}" for _, row in rows.iterrows()
        )
        parts.append(f"{rows['title'].iloc[0]!s} {points}")
    return "Mean Dice: " + _listed(parts)


def lengths(result: TargetResult) -> str:
    """Describe how scores depend on the length of training."""
    parts = []
    for _, rows in result.lengths.groupby("family", sort=False):
        points = ", ".join(
            f"{_number(row[PRIMARY])} after {row['iterations']:,} iterations" for _, row in rows.iterrows()
        )
        parts.append(f"{rows['title'].iloc[0]!s} {points}")
    return "Mean Dice: " + _listed(parts)


def training(result: TargetResult, curves: pd.DataFrame) -> str:
    """Describe the training curves by their final values."""
    last = curves.sort_values("epoch").groupby(["arm", "seed", "fold"], dropna=False).tail(1)
    ends = last.groupby("arm")["pseudo_dice"].agg(["min", "max"])
    return "Pseudo Dice after the last epoch: " + _listed(
        f"{arm.title} {_number(ends['min'][arm.name])} to {_number(ends['max'][arm.name])}"
        for arm in result.arms
        if arm.name in ends.index
    )


def _interval(row: pd.Series, value: str, low: str, high: str, decimals: int = 3) -> str:
    text, *ends = (_number(row[key], decimals, sign=True) for key in (value, low, high))
    return text if np.isnan(row[low]) else f"{text} ({ends[0]} to {ends[1]})"


def _number(value: float, decimals: int = 3, *, sign: bool = False) -> str:
    return "undefined" if np.isnan(value) else number(value, Column("", decimals, sign=sign))


def _listed(parts: Iterable[str]) -> str:
    parts = list(parts)
    more = f"; and {len(parts) - MOST} more in the table" if len(parts) > MOST else ""
    # names stay as they are: an arm's title may begin with a small letter
    return f"{'; '.join(parts[:MOST])}{more}."


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
