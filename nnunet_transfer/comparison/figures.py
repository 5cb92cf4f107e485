"""Figures of the report, drawn with matplotlib; no arithmetic on scores beyond medians for the eye."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult
from nnunet_transfer.comparison.results import DOMAINS, TASKS, Run
from nnunet_transfer.evaluation.masks import Volume, read_mask, read_volume
from nnunet_transfer.files import atomic_path

matplotlib.use("agg")
import matplotlib.pyplot as plt  # the backend is chosen before pyplot is imported
from matplotlib.figure import Figure

#: colour-blind safe: Okabe and Ito, "Color universal design", 2008
BASELINE, T1, NATURAL, REFERENCE, OTHER = "#000000", "#0072B2", "#E69F00", "#009E73", "#CC79A7"
DOMAIN_COLOURS = {"T1 brain MRI": T1, "natural images": NATURAL, "": BASELINE}
FORMATS = ("png", "svg")


def colour_of(result: TargetResult, arm: str) -> str:
    """Return an arm's colour: its source domain's."""
    domain = next(a.domain for a in result.arms if a.name == arm)
    return DOMAIN_COLOURS.get(domain, OTHER)


def grid(results: Sequence[TargetResult]) -> Figure | None:
    """Draw the mean Dice difference to the baseline for source task by source domain, one panel per target."""
    tasks, domains = list(TASKS.values()), list(DOMAINS.values())
    panels = []
    for result in results:
        values = np.full((len(tasks), len(domains)), np.nan)
        rows = result.tests[result.tests["metric"] == PRIMARY] if len(result.tests) else result.tests
        for arm in result.arms:
            row = rows[rows["arm"] == arm.name] if len(rows) else rows
            if arm.task in tasks and arm.domain in domains and len(row):
                values[tasks.index(arm.task), domains.index(arm.domain)] = row["difference"].iloc[0]
        panels.append(values)
    if all(np.isnan(values).all() for values in panels):
        return None
    limit = max(0.01, float(np.nanmax(np.abs(np.stack(panels)))))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.9 * len(panels) + 1.6, 3.0), squeeze=False, layout="constrained"
    )
    image: Any = None
    for axis, values, result in zip(axes[0], panels, results, strict=True):
        image = axis.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        axis.set_xticks(range(len(domains)), ["natural", "T1"])
        axis.set_yticks(range(len(tasks)), tasks if axis is axes[0][0] else [""] * len(tasks))
        axis.set_title(result.target.title, fontsize=10)
        for (i, j), value in np.ndenumerate(values):
            text = "not run" if np.isnan(value) else f"{value:+.3f}"
            axis.text(j, i, text, ha="center", va="center", color="white" if abs(value) > 0.6 * limit else "black")
    figure.colorbar(image, ax=axes[0].tolist(), label="mean Dice difference to baseline", shrink=0.9)
    return figure


def forest(result: TargetResult, metric: str = PRIMARY) -> Figure:
    """Draw each arm's mean paired difference to the baseline with its 95 % interval."""
    rows = result.tests[result.tests["metric"] == metric].iloc[::-1]
    figure, axis = plt.subplots(figsize=(6.4, 0.42 * len(rows) + 1.2), layout="constrained")
    axis.axvline(0, color="grey", linewidth=1)
    for y, (_, row) in enumerate(rows.iterrows()):
        colour = colour_of(result, row["arm"])
        axis.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        axis.plot(row["difference"], y, "o", color=colour)
    axis.set_yticks(range(len(rows)), list(rows["title"]))
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(f"{metric_name(result, metric)}: difference to {result.title_of(result.baseline)} (95 % interval)")
    _bare(axis)
    return figure


def dots(result: TargetResult, metric: str = PRIMARY) -> Figure:
    """Draw each case's score per arm, with the median."""
    figure, axis = plt.subplots(figsize=(6.4, 0.42 * len(result.arms) + 1.2), layout="constrained")
    rng = np.random.default_rng(0)
    arms = list(reversed(result.arms))
    for y, arm in enumerate(arms):
        values = result.per_case.loc[result.per_case["arm"] == arm.name, metric].dropna().to_numpy()
        colour = colour_of(result, arm.name)
        axis.plot(values, y + rng.uniform(-0.16, 0.16, len(values)), "o", color=colour, alpha=0.5, markersize=4)
        if len(values):
            axis.plot([np.median(values)] * 2, [y - 0.32, y + 0.32], color=colour, linewidth=3)
    axis.set_yticks(range(len(arms)), [arm.title for arm in arms])
    axis.set_xlabel(f"{metric_name(result, metric)} per case; bar: median")
    axis.set_xlim(-0.02, 1.02)
    _bare(axis)
    return figure


def metric_name(result: TargetResult, metric: str) -> str:
    """Return how the report calls a metric."""
    lesion_wise = {f"{p.name}_f1": f"{p.title} lesion F1" for p in result.protocols}
    return {"dice": "Dice", "iou": "IoU", **lesion_wise}[metric]


def _bare(axis: Any) -> None:
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)


def gallery_cases(result: TargetResult) -> dict[str, str]:
    """Return the cases shown: where the arms' mean Dice is highest, in the middle, and lowest."""
    means = result.per_case.groupby("case", sort=False)[PRIMARY].mean().dropna().sort_values()
    if not len(means):
        return {}
    chosen = {"best": means.index[-1], "median": means.index[len(means) // 2], "worst": means.index[0]}
    return {role: case for i, (role, case) in enumerate(chosen.items()) if case not in list(chosen.values())[:i]}


def slices(result: TargetResult, case: str) -> Figure:
    """Draw the slice with the largest reference, with contours of the reference and of each arm's prediction."""
    target = result.target
    reference = read_mask(target.references[case])
    picture = _image_of(target.images.get(case), reference)
    fold = next(k for k, cases in target.folds.items() if case in cases)
    first_runs: dict[str, Run] = {}
    for run in result.runs:
        first_runs.setdefault(run.arm.name, run)
    columns = 4
    rows = -(-len(first_runs) // columns)
    index, axis_of_slices = _largest_slice(reference)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, run in zip(axes.flat, first_runs.values(), strict=False):
        path = run.folds[fold] / target.references[case].name
        prediction = read_mask(path)
        aspect = _aspect(reference, axis_of_slices)
        if picture is not None:
            axis.imshow(_cut(picture, index, axis_of_slices), cmap="gray", aspect=aspect)
        _contours(axis, _cut(reference.array, index, axis_of_slices), REFERENCE, picture is None, aspect)
        _contours(axis, _cut(prediction.array, index, axis_of_slices), "#D55E00", False, aspect)
        score = result.per_case.query("arm == @run.arm.name and case == @case")[PRIMARY]
        axis.set_title(f"{run.arm.title}\nDice {score.iloc[0]:.2f}", fontsize=9)
    return figure


def _image_of(path: Path | None, reference: Volume) -> np.ndarray | None:
    if path is None:
        return None
    array = read_volume(path).array if path.suffix != ".png" else _grey(path)
    return array if array.shape == reference.array.shape else None


def _grey(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def _largest_slice(reference: Volume) -> tuple[int, int]:
    """Return the slice to show and its axis: across the coarsest spacing, where the reference is largest."""
    if reference.array.ndim == 2:
        return 0, -1
    axis = int(np.argmax(reference.spacing))
    others = tuple(i for i in range(3) if i != axis)
    return int((reference.array > 0).sum(others).argmax()), axis


def _cut(array: np.ndarray, index: int, axis: int) -> np.ndarray:
    # the first row of a NIfTI slice is its lowest: show it upright
    return array if axis < 0 else np.take(array, index, axis)[::-1]


def _aspect(reference: Volume, axis: int) -> float:
    spacing = [s for i, s in enumerate(reference.spacing) if i != axis]
    return spacing[0] / spacing[1]


def _contours(axis: Any, labels: np.ndarray, colour: str, blank: bool, aspect: float) -> None:
    if blank:
        axis.imshow(np.zeros(labels.shape), cmap="gray", vmin=0, vmax=1, aspect=aspect)
    for value in np.unique(labels):
        if value:
            axis.contour(labels == value, levels=[0.5], colors=[colour], linewidths=1)


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as PNG and SVG into `folder`, close it, and return the PNG as a data URI."""
    buffer = io.BytesIO()
    for extension in FORMATS:
        with atomic_path(folder / f"{name}.{extension}") as path:
            figure.savefig(path, dpi=130)
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
