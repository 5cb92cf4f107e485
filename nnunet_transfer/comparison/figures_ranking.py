"""Figures of the ranking of the arms, in the style of challengeR (Wiesenfarth et al., Sci Rep 2021)."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult, metric_name
from nnunet_transfer.comparison.figures import (
    ALPHA,
    DIVERGING,
    WIDTH,
    Figure,
    bare,
    colour_of,
    ink,
    plt,
    signed,
    styles,
)

#: width of a place in the podium plot, in inches
_PER_PLACE = 0.62
#: longest titles that fit on a bar, and the number of arms at which bars become narrower than a letter
_SHORT, _CROWDED = 3, 8


def podium(result: TargetResult) -> Figure | None:
    """Draw each subject's scores by the place that each arm takes for it, and how often an arm takes each place.

    A line joins the scores of one subject. Tied arms share places: the bars divide each place equally among them, and the
    points are drawn in the order of the table above. Return None if no subject has scores of all arms.
    """
    arms = by_rank(result)
    wide = result.per_subject.pivot(index="subject", columns="arm", values=PRIMARY)[arms].dropna()
    k = len(arms)
    if wide.empty or k < 2:
        return None
    values = wide.to_numpy(float)
    first, last = (wide.rank(axis=1, method=method, ascending=False).to_numpy(int) for method in ("min", "max"))
    size = (max(WIDTH, _PER_PLACE * k + 1.2), 5.0)
    figure, (above, below) = plt.subplots(2, 1, figsize=size, height_ratios=(2.2, 1), sharex=True, layout="constrained")
    # each arm has its own lane within a place
    lanes = 0.8 * ((np.arange(k) + 0.5) / k - 0.5)
    order = np.argsort(-values, axis=1, kind="stable")
    place = np.argsort(order, axis=1) + 1
    x = place + lanes
    for row in range(len(values)):
        above.plot(x[row, order[row]], values[row, order[row]], color="grey", linewidth=0.4, alpha=0.4)
    titles = {arm.name: arm.title for arm in result.arms}
    # bars have no room for names: arms are numbered unless they have codes
    short = all(len(title) <= _SHORT for title in titles.values())
    marks = {name: titles[name] if short else str(i) for i, name in enumerate(arms, 1)}
    drawn = styles(result)
    for i, name in enumerate(arms):
        colour = colour_of(result, name)
        style = drawn[name] | {"linestyle": "none", "markersize": 3.5, "markeredgewidth": 0.7}
        above.plot(x[:, i], values[:, i], label=titles[name] if short else f"{marks[name]}  {titles[name]}", **style)
        shares = [_share(first[:, i], last[:, i], p) for p in range(1, k + 1)]
        below.bar(np.arange(1, k + 1) + lanes[i], shares, 0.8 / k, color=colour, edgecolor="white", linewidth=0.3)
        for p, share in enumerate(shares, start=1):
            if share == max(shares):
                below.annotate(
                    marks[name],
                    (p + lanes[i], share),
                    rotation=90 if short else 0,
                    fontsize=6 if k < _CROWDED else 5,
                    ha="center",
                    va="bottom",
                    # with many arms, two neighbours may have their highest bars in the same place
                    xytext=(0, 2 if k < _CROWDED or i % 2 else 2 + 6 * len(marks[name])),
                    textcoords="offset points",
                )
    for edge in np.arange(1, k) + 0.5:
        for axis in (above, below):
            axis.axvline(edge, color="lightgrey", linewidth=0.6)
    above.set_ylabel(f"{metric_name(result, PRIMARY)} of a subject")
    below.set_ylabel("share of\nsubjects")
    below.set_xlabel("place for a subject")
    below.set_xticks(range(1, k + 1))
    below.set_xlim(0.5, k + 0.5)
    for axis in (above, below):
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def significance(result: TargetResult) -> Figure:
    """Draw the mean paired difference between all arms, row minus column, best arm first.

    A frame and an asterisk mark differences that are significant after Holm adjustment.
    """
    names = by_rank(result)
    k = len(names)
    values, marked = np.full((k, k), np.nan), np.zeros((k, k), bool)
    for _, row in result.pairs.iterrows():
        i, j = names.index(row["arm"]), names.index(row["compared_with"])
        values[i, j], values[j, i] = row["difference"], -row["difference"]
        marked[i, j] = marked[j, i] = row["p_holm"] < ALPHA
    finite = np.abs(values[np.isfinite(values)])
    limit = max(0.01, float(finite.max())) if len(finite) else 0.01
    figure, axis = plt.subplots(figsize=(0.62 * k + 1.9, 0.45 * k + 1.6), layout="constrained")
    image = axis.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    titles = [result.title_of(name) for name in names]
    axis.set_xticks(range(k), titles, rotation=40, ha="right")
    axis.set_yticks(range(k), titles)
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = f"{signed(value)}{'*' if marked[i, j] else ''}"
            axis.text(j, i, text, ha="center", va="center", fontsize=8, color=ink(value, limit))
        if marked[i, j]:
            axis.add_patch(
                plt.Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.2)
            )
    figure.colorbar(image, ax=axis, label=f"{metric_name(result, PRIMARY)}, row minus column")
    return figure


def ranks(result: TargetResult) -> Figure:
    """Draw how often each arm takes each rank under the bootstrap (area of the circles), and its observed rank."""
    rows = result.ranks.sort_values("rank", kind="stable")
    k = len(rows)
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * k + 1.2), layout="constrained")
    for y, (_, row) in enumerate(rows.iloc[::-1].iterrows()):
        colour = colour_of(result, row["arm"])
        axis.plot([row["rank_low"], row["rank_high"]], [y, y], color=colour, linewidth=1.5)
        shares = np.array([row[f"share_{place}"] for place in range(1, k + 1)])
        axis.scatter(
            np.arange(1, k + 1),
            np.full(k, y),
            s=320 * shares,
            color=matplotlib.colors.to_rgba(colour, 0.4),
            edgecolors=colour,
            linewidths=0.6,
        )
        axis.plot(row["rank"], y, "|", color=colour, markersize=18, markeredgewidth=2)
    axis.set_yticks(range(k), list(rows["title"].iloc[::-1]))
    axis.set_ylim(-0.6, k - 0.4)
    axis.set_xticks(range(1, k + 1))
    axis.set_xlim(0.5, k + 0.5)
    axis.set_xlabel(f"rank by mean {metric_name(result, PRIMARY)};\ncircle: share of bootstrap samples")
    bare(axis)
    return figure


def _share(first: np.ndarray, last: np.ndarray, place: int) -> float:
    """Return how often an arm takes a place; tied arms share their places equally."""
    return float(np.mean(((first <= place) & (place <= last)) / (last - first + 1)))


def by_rank(result: TargetResult) -> list[str]:
    """Return the arms' names, best mean first."""
    if not len(result.ranks):
        return [arm.name for arm in result.arms]
    ordered: pd.DataFrame = result.ranks.sort_values("rank", kind="stable")
    return list(ordered["arm"])
