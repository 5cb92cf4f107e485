"""The three things that are called mIoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_transfer.evaluation.empties import DEFAULT_EMPTY


@dataclass(frozen=True)
class MeanIou:
    """mIoU by name.

    Attributes
    ----------
    over_cases : per subject the mean over its scans of the mean over classes, then the mean over subjects
    over_classes : per class the mean over subjects, then the mean over classes
    pooled : per class the IoU of the voxels of all subjects together, then the mean over classes
    """

    over_cases: float
    over_classes: float
    pooled: float


def mean_iou(cases: pd.DataFrame, empty: str = DEFAULT_EMPTY) -> MeanIou:
    """Average the IoU of a table with one row per case (perhaps several seeds of it) and label.

    Scans of one subject are averaged first; without the column `subject` each case is one. Missing scores are left out.

    Parameters
    ----------
    cases : columns case, label, iou, voxels_tp, voxels_fp, voxels_fn, and perhaps seed and subject
    empty : rule for a class that no reference has, see `EMPTY_RULES`; scores of cases have it applied already
    """
    levels = ["subject", "case"] if "subject" in cases else ["case"]
    seeds = ["seed"] if "seed" in cases else []
    voxels = ["voxels_tp", "voxels_fp", "voxels_fn"]
    per_case = cases.groupby([*levels, *seeds], sort=False, dropna=False)["iou"].mean()
    per_label = cases.groupby(["label", *levels, *seeds], sort=False, dropna=False)[["iou", *voxels]].mean()
    while per_case.index.nlevels > 1:
        per_case = per_case.groupby(level=list(range(per_case.index.nlevels - 1)), sort=False).mean()
        per_label = per_label.groupby(level=list(range(per_label.index.nlevels - 1)), sort=False).mean()
    by_label = per_label.groupby(level="label", sort=False)
    tp, fp, fn = by_label[voxels].sum().to_numpy(float).T
    with np.errstate(invalid="ignore"):
        pooled = tp / (tp + fp + fn)
    nowhere = tp + fn == 0
    if empty == "leave-out":
        pooled = np.where(nowhere, np.nan, pooled)
    else:
        pooled = np.where(nowhere & (fp == 0), 1.0, pooled)
    known = pooled[np.isfinite(pooled)]
    return MeanIou(
        float(per_case.mean()),
        float(by_label["iou"].mean().mean()),
        float(known.mean()) if len(known) else float("nan"),
    )
