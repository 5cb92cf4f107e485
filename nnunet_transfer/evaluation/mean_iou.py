"""The three things that are called mIoU."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class MeanIou:
    """mIoU by name; classes absent from both masks of a case have no IoU there and are left out.

    Attributes
    ----------
    over_cases : per case the mean over classes, then the mean over cases
    over_classes : per class the mean over cases, then the mean over classes
    pooled : per class the IoU of the voxels of all cases together, then the mean over classes
    """

    over_cases: float
    over_classes: float
    pooled: float


def mean_iou(cases: pd.DataFrame) -> MeanIou:
    """Average the IoU of a table with one row per case (perhaps several seeds of it) and label.

    Parameters
    ----------
    cases : columns case, label, iou, voxels_tp, voxels_fp, voxels_fn, and perhaps seed
    """
    by_label = cases.groupby("label", sort=False)
    voxels = by_label[["voxels_tp", "voxels_fp", "voxels_fn"]].sum()
    runs = [key for key in ("case", "seed") if key in cases]
    per_case = cases.groupby(runs, sort=False, dropna=False)["iou"].mean().groupby(level="case", sort=False).mean()
    return MeanIou(
        float(per_case.mean()),
        float(by_label["iou"].mean().mean()),
        float((voxels["voxels_tp"] / voxels.sum(axis=1)).mean()),
    )
