"""Figures on lesions and volumes."""

from __future__ import annotations

import numpy as np

from nnunet_transfer.comparison.analysis import TargetResult
from nnunet_transfer.comparison.figures import MOST_NARROW, WIDTH, Figure, colour_of, hide_unused, hollow, plt, styles
from nnunet_transfer.comparison.lesions import STRATA
from nnunet_transfer.comparison.volumes import subject_volumes
from nnunet_transfer.words import rounded

COLUMNS = 4


def bland_altman(result: TargetResult, label: str) -> Figure:
    """Draw predicted minus reference volume over their mean, one panel per arm, with bias and limits of agreement."""
    volumes = subject_volumes(result.cases)
    volumes = volumes[(volumes["label"] == label) & volumes["arm"].isin([arm.name for arm in result.arms])]
    mean = (volumes["volume_pred_ml"] + volumes["volume_ref_ml"]) / 2
    volumes = volumes.assign(mean=mean, difference=volumes["volume_pred_ml"] - volumes["volume_ref_ml"])
    columns = min(COLUMNS, len(result.arms))
    rows = -(-len(result.arms) // columns)
    size = (1.8 * columns + 0.8, 1.9 * rows + 0.4) if columns > 1 else (WIDTH, 3.2)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    agreement = result.volumes[result.volumes["label"] == label].set_index("arm")
    for axis, arm in zip(axes.flat, result.arms, strict=False):
        own, line = volumes[volumes["arm"] == arm.name], agreement.loc[arm.name].to_dict()
        colour = colour_of(result, arm.name)
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.axhline(line["bias_ml"], color=colour, linewidth=1.5)
        for limit in ("limit_low_ml", "limit_high_ml"):
            axis.axhline(line[limit], color=colour, linewidth=1, linestyle="--")
        axis.plot(own["mean"], own["difference"], "o", **hollow(colour))
        # a mean of equal volumes may be off by a rounding error
        axis.set_title(f"{arm.title}\nbias {rounded(line['bias_ml'], 6):+.3g} ml, n = {len(own)}", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    hide_unused(axes, len(result.arms))
    figure.supxlabel(f"{label}: mean of reference and prediction, ml", fontsize=9)
    figure.supylabel("prediction - reference, ml", fontsize=9)
    return figure


def size_sensitivity(result: TargetResult, protocol: str) -> Figure:
    """Draw the share of detected reference lesions per stratum of size, with 95 % intervals."""
    table = result.sizes[result.sizes["protocol"] == protocol]
    strata = [s for s in STRATA if s in set(table["stratum"])]
    many = len(result.arms) > MOST_NARROW
    figure, axis = plt.subplots(figsize=(1.7 * WIDTH if many else WIDTH, 4.2), layout="constrained")
    drawn = styles(result)
    # the arms of a stratum stay apart from those of the next
    step = min(0.09, 0.8 / len(result.arms))
    for i, arm in enumerate(result.arms):
        rows = table[table["arm"] == arm.name].set_index("stratum").reindex(strata)
        x = np.arange(len(strata)) + step * (i - (len(result.arms) - 1) / 2)
        error = np.nan_to_num([rows["sensitivity"] - rows["low"], rows["high"] - rows["sensitivity"]])
        # rounding may put an estimate beyond the end of its interval
        error = np.maximum(error, 0)
        style = drawn[arm.name] | {"linestyle": "none"}
        axis.errorbar(x, rows["sensitivity"], error, label=arm.title, elinewidth=1, **style)
    counts = table.groupby("stratum")["n_lesions"].max()
    axis.set_xticks(range(len(strata)), [f"{s}\nn = {counts[s]}" for s in strata])
    axis.set_xlabel("volume of the reference lesion, ml; n: lesions")
    axis.set_ylabel("share detected")
    axis.set_ylim(-0.03, 1.03)
    figure.legend(loc="outside lower center", ncols=7 if many else 2, frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    return figure
