"""Figures of how the arms were trained."""

from __future__ import annotations

import pandas as pd

from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.figures import Figure, colour_of, hide_unused, plt

COLUMNS = 4
#: points per line that are drawn; longer trainings are thinned out
MOST_POINTS = 250


def training(result: TargetResult, curves: pd.DataFrame) -> Figure:
    """Draw nnU-Net's pseudo Dice over epochs, one panel per arm: a line per seed and fold, the baseline's mean in grey."""
    rows = -(-len(result.arms) // COLUMNS)
    columns = min(COLUMNS, len(result.arms))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.3 * columns + 0.4, 1.9 * rows + 0.4),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    baseline = curves[curves["arm"] == result.baseline].groupby("epoch")["pseudo_dice"].mean()
    for axis, arm in zip(axes.flat, result.arms, strict=False):
        if arm.name != result.baseline:
            axis.plot(baseline.index, baseline, color="#8a8a8a", linewidth=2.5, zorder=1)
        own = curves[curves["arm"] == arm.name]
        for i, (_, run) in enumerate(own.groupby(["seed", "fold"], dropna=False)):
            thinned = run.iloc[:: max(1, len(run) // MOST_POINTS)]
            axis.plot(
                thinned["epoch"],
                thinned["pseudo_dice"],
                color=colour_of(result, arm.name),
                linewidth=0.9,
                linestyle=("-", "--", ":", "-.")[i % 4],
                marker="." if len(run) < 10 else "",
            )
        axis.set_title(arm.title, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    hide_unused(axes, len(result.arms))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("pseudo Dice", fontsize=9)
    return figure
