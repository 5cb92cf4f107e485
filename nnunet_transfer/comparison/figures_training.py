"""Figures of how the arms were trained."""

from __future__ import annotations

import pandas as pd

from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.figures import WIDTH, Figure, colour_of, hide_unused, plt

COLUMNS = 4
GREY = "#8a8a8a"
#: maximum number of points per line; longer trainings are thinned out
MOST_POINTS = 250


def training(result: TargetResult, curves: pd.DataFrame) -> Figure:
    """Draw nnU-Net's pseudo Dice over epochs, one panel per arm: a line per seed and fold, its baseline's mean in grey."""
    rows = -(-len(result.arms) // COLUMNS)
    columns = min(COLUMNS, len(result.arms))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.3 * columns + 0.4, 1.9 * rows + 0.4) if columns > 1 else (WIDTH, 3.2),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    means = {arm: own.groupby("epoch")["pseudo_dice"].mean() for arm, own in curves.groupby("arm")}
    for axis, arm in zip(axes.flat, result.arms, strict=False):
        # arms of several recipes have a baseline each
        reference = result.baselines.get(arm.name, result.baseline)
        if reference != arm.name and (mean := means.get(reference)) is not None:
            axis.plot(mean.index, mean, color=GREY, linewidth=2.5, zorder=1)
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
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("pseudo Dice", fontsize=9)
    return figure
