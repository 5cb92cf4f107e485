"""The three definitions of mIoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_transfer.evaluation.empties import DEFAULT_EMPTY


@dataclass(frozen=True)
class MeanIou:
    """mIoU under three definitions.

    Attributes
    ----------
    over_cases : mean over classes, then over the scans of each subject, then over subjects
    over_classes : mean over subjects for each class, then over classes
    pooled : IoU of the pooled voxels of all subjects for each class, then mean over classes
    """

    over_cases: float
    over_classes: float
    pooled: float


def mean_iou(cases: pd.DataFrame, empty: str = DEFAULT_EMPTY) -> MeanIou:
    """Average the IoU of a table with one row per case (perhaps several seeds of it) and label.

    Scans of one subject are averaged first; without the column `subject`, each case is a subject. Missing scores are left
    out.

    Parameters
    ----------
    cases : columns case, label, iou, voxels_tp, voxels_fp, voxels_fn, and perhaps seed and subject
    empty : rule for a class that no reference contains, see `EMPTY_RULES`; it is already applied to the scores of the cases
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
