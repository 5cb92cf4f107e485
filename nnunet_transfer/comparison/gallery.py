"""Pictures of single cases: contours of the reference and of each arm's prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult
from nnunet_transfer.comparison.figures import PREDICTION, REFERENCE, Figure, plt
from nnunet_transfer.comparison.results import Run
from nnunet_transfer.evaluation.masks import Volume, read_mask, read_volume


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
        _contours(axis, _cut(prediction.array, index, axis_of_slices), PREDICTION, False, aspect)
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
