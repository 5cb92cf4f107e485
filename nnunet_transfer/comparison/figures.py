"""Figures of the report, drawn with matplotlib. The only arithmetic on scores is a median."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult, metric_name
from nnunet_transfer.comparison.grid import variant
from nnunet_transfer.comparison.markup import Column, number
from nnunet_transfer.comparison.results import DOMAINS, TASKS
from nnunet_transfer.comparison.verdicts import PRINTED_DECIMALS
from nnunet_transfer.files import atomic_path

matplotlib.use("agg")
import matplotlib.pyplot as plt  # the backend is chosen before pyplot is imported
from matplotlib.figure import Figure

#: Okabe and Ito, "Color universal design", 2008, with darker orange and purple for a contrast of 3 to 1
BASELINE, T1, NATURAL, OTHER = "#000000", "#0072B2", "#C47A00", "#B8578D"
DOMAIN_COLOURS = {"T1 brain MRI": T1, "natural images": NATURAL, "": BASELINE}
#: source task -> marker and line
TASK_STYLES = {"classification": ("o", "-"), "segmentation": ("s", "--"), "self-supervised": ("^", ":")}
#: arms that share task and domain, such as those of two recipes, differ in how their markers are filled
FILLS = ("full", "none", "left", "top", "right", "bottom")
DIVERGING = "PuOr"
ALPHA = 0.05
DPI = 130
#: inches; text stays readable when the figure shrinks to the width of a phone
WIDTH = 5.4
#: with more arms, figures with one row and column per arm are wide
MOST_NARROW = 7


def colour_of(result: TargetResult, arm: str) -> str:
    """Return the colour of an arm, which depends on the domain of its source."""
    domain = next(a.domain for a in result.arms if a.name == arm)
    return DOMAIN_COLOURS.get(domain, OTHER)


def _panels(result: TargetResult) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), rows) for name, rows in result.grid.groupby("panel", sort=False)] if len(result.grid) else []


#: panels per row of the grid
GRID_COLUMNS = 3


def grid(results: Sequence[TargetResult]) -> Figure | None:
    """Draw the mean Dice difference from the baseline for source task by source domain.

    There is one panel per target, recipe and further source of a task and domain, as in the table `grid`. Sources of a single
    task and domain have no figure: it would say "not run" in all cells but one.
    """
    tasks, domains = list(TASKS.values()), list(DOMAINS.values())
    panels: list[tuple[str, np.ndarray, dict[tuple[int, int], str]]] = []
    for result in results:
        for name, rows in _panels(result):
            values = np.full((len(tasks), len(domains)), np.nan)
            # why a cell has no number
            words = {
                (tasks.index(arm.task), domains.index(arm.domain)): "baseline"
                for arm in result.arms
                if arm.name in result.baselines.values()
                and arm.task in tasks
                and arm.domain in domains
                and variant(arm) == name
            }
            for _, row in rows.iterrows():
                cell = tasks.index(row["task"]), domains.index(row["domain"])
                values[cell], words[cell] = row["difference"], "undefined"
            panels.append((f"{result.target.title}{f': {name}' if name else ''}", values, words))
    cells = {cell for _, _, words in panels for cell in words}
    if len(cells) < 2 or all(np.isnan(values).all() for _, values, _ in panels):
        return None
    limit = max(0.01, float(np.nanmax(np.abs(np.stack([values for _, values, _ in panels])))))
    columns = min(GRID_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    size = (2.9 * columns + 1.6, 3.0 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    image: Any = None
    for place, axis in enumerate(axes.flat):
        if place >= len(panels):
            axis.set_axis_off()
            continue
        title, values, words = panels[place]
        image = axis.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        axis.set_xticks(range(len(domains)), ["natural", "T1"])
        axis.set_yticks(range(len(tasks)), tasks if place % columns == 0 else [""] * len(tasks))
        axis.set_title("\n".join(textwrap.wrap(title, 30)), fontsize=10)
        for (i, j), value in np.ndenumerate(values):
            text = words.get((i, j), "not run") if np.isnan(value) else signed(value)
            axis.text(j, i, text, ha="center", va="center", color=ink(value, limit))
    figure.colorbar(image, ax=axes.ravel().tolist(), label="mean Dice difference", shrink=0.9)
    return figure


def forest(result: TargetResult, metric: str = PRIMARY) -> Figure:
    """Draw each arm's mean paired difference from the baseline with its 95 % interval."""
    rows = result.tests[result.tests["metric"] == metric].iloc[::-1]
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(rows) + 1.2), layout="constrained")
    axis.axvline(0, color="grey", linewidth=1)
    for y, (_, row) in enumerate(rows.iterrows()):
        colour = colour_of(result, row["arm"])
        axis.plot([row["headline_low"], row["headline_high"]], [y, y], color=colour, linewidth=2)
        axis.plot(row["difference"], y, "o", color=colour)
    axis.xaxis.set_major_locator(plt.MaxNLocator(5))
    axis.set_yticks(range(len(rows)), list(rows["title"]))
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(f"{metric_name(result, metric)}: difference from\n{result.baseline_title} (95 % interval)")
    bare(axis)
    return figure


def dots(result: TargetResult, metric: str = PRIMARY) -> Figure:
    """Draw each subject's score per arm, with the median."""
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(result.arms) + 1.2), layout="constrained")
    rng = np.random.default_rng(0)
    arms = list(reversed(result.arms))
    for y, arm in enumerate(arms):
        values = result.per_subject.loc[result.per_subject["arm"] == arm.name, metric].dropna().to_numpy()
        colour = colour_of(result, arm.name)
        axis.plot(values, y + rng.uniform(-0.16, 0.16, len(values)), "o", **hollow(colour))
        if len(values):
            axis.plot([np.median(values)] * 2, [y - 0.32, y + 0.32], color=colour, linewidth=3)
    axis.set_yticks(range(len(arms)), [arm.title for arm in arms])
    axis.set_xlabel(f"{metric_name(result, metric)} per subject; bar: median")
    axis.set_xlim(-0.02, 1.02)
    bare(axis)
    return figure


def hollow(colour: str) -> dict[str, Any]:
    """Return the style of points in a dense plot: overlaps and single points are both visible."""
    face = matplotlib.colors.to_rgba(colour, 0.35)
    return {"color": colour, "markerfacecolor": face, "markeredgewidth": 0.7, "markersize": 4}


def bare(axis: Any) -> None:
    """Remove the parts of an axis that a figure doesn't need."""
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)


def hide_unused(axes: Any, used: int) -> None:
    """Hide unused panels, and label the axis of the panel above instead.

    Parameters
    ----------
    axes : array of panels with shared axes, shape (rows, columns)
    """
    for axis in axes.flat[used:]:
        axis.axis("off")
    columns = axes.shape[1]
    for axis in axes.flat[max(0, used - columns) : used]:
        axis.tick_params(labelbottom=True)


def curves(result: TargetResult) -> Figure:
    """Draw the mean score over the number of training cases, one line per arm, with 95 % intervals."""
    figure, axis = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
    families = list(result.curves.groupby("family", sort=False))
    sizes = sorted(result.curves["training_cases"].unique())
    drawn = line_styles([(rows["task"].iloc[0], rows["domain"].iloc[0]) for _, rows in families])
    for i, (_, rows) in enumerate(families):
        # neighbouring lines are shifted by 1 % so that their intervals stay apart
        x = rows["training_cases"] * (1 + 0.01 * (i - (len(families) - 1) / 2))
        error = [rows[PRIMARY] - rows["low"], rows["high"] - rows[PRIMARY]]
        axis.errorbar(x, rows[PRIMARY], error, label=rows["title"].iloc[0], capsize=2, **drawn[i])
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{n:g}" for n in sizes])
    axis.minorticks_off()
    axis.set_xlabel("training cases")
    axis.set_ylabel(f"mean {metric_name(result, PRIMARY)}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    return figure


def lengths(result: TargetResult) -> Figure:
    """Draw the mean score over the length of training, one panel per number of training cases, with 95 % intervals.

    A dotted line continues each training of a single length, such as the baseline.
    """
    panels = list(result.lengths.groupby("training_cases"))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(max(WIDTH, 3.2 * len(panels)), 4.4), layout="constrained", sharey=True, squeeze=False
    )
    families = result.lengths.drop_duplicates("title")
    kinds = list(zip(families["task"], families["domain"], strict=True))
    drawn = dict(zip(families["title"], line_styles(kinds), strict=True))
    for axis, (cases, panel) in zip(axes.flat, panels, strict=True):
        for _, rows in panel.groupby("family", sort=False):
            title = rows["title"].iloc[0]
            error = [rows[PRIMARY] - rows["low"], rows["high"] - rows[PRIMARY]]
            axis.errorbar(rows["iterations"], rows[PRIMARY], error, label=title, capsize=2, **drawn[title])
            if len(rows) == 1:
                axis.axhline(rows[PRIMARY].iloc[0], color=drawn[title]["color"], linestyle=":", linewidth=1)
        ticks = sorted(panel["iterations"].unique())
        axis.set_xscale("log")
        axis.set_xticks(ticks, [f"{n:,}" for n in ticks], rotation=45 if len(ticks) > 4 else 0)
        axis.minorticks_off()
        if len(panels) > 1:
            axis.set_title(f"{cases:g} training {'case' if cases == 1 else 'cases'}", fontsize=9)
        axis.set_xlabel("iterations")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(f"mean {metric_name(result, PRIMARY)}")
    labelled = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def line_style(task: str, domain: str, same: int = 0) -> dict[str, Any]:
    """Return the line style of an arm: the colour shows the domain of its source, the marker the task.

    Parameters
    ----------
    same : number of earlier arms with this task and domain
    """
    marker, line = TASK_STYLES.get(task, ("D", "-"))
    return {
        "color": DOMAIN_COLOURS.get(domain, OTHER),
        "marker": marker,
        "linestyle": line,
        "markersize": 5,
        "fillstyle": FILLS[same % len(FILLS)],
        "markerfacecoloralt": "white",
    }


def styles(result: TargetResult) -> dict[str, dict[str, Any]]:
    """Return the line and marker style of each arm."""
    drawn = line_styles([(arm.task, arm.domain) for arm in result.arms])
    return {arm.name: style for arm, style in zip(result.arms, drawn, strict=True)}


def line_styles(kinds: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return distinct line styles for several arms, given the source task and domain of each."""
    return [line_style(*kind, kinds[:i].count(kind)) for i, kind in enumerate(kinds)]


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return number(value, Column("", PRINTED_DECIMALS, sign=True))


def ink(value: float, limit: float) -> str:
    """Return a text colour that is readable on a cell of this value."""
    return "white" if abs(value) > 0.6 * limit else "black"


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as PNG and SVG into `folder`, close it, and return the PNG as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    with atomic_path(folder / f"{name}.png") as path:
        path.write_bytes(buffer.getvalue())
    # omit the date and random names, so that equal results give equal files
    with atomic_path(folder / f"{name}.svg") as path, plt.rc_context({"svg.hashsalt": name}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
