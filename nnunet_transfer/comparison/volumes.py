"""Agreement of predicted with reference volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import Scores, subject_sums
from nnunet_transfer.comparison.bootstrap import make_clusters, mean_intervals
from nnunet_transfer.comparison.folds import FOLDS, NETWORKS, fold_interval, outlying_groups
from nnunet_transfer.comparison.paired import hull
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings

#: half-width of the limits of agreement in standard deviations: 95 % of a normal distribution
LIMITS = 1.96


def subject_volumes(cases: pd.DataFrame) -> pd.DataFrame:
    """Return reference and predicted volume in ml per arm, label and subject, averaged over seeds and scans."""
    return subject_sums(cases, ["arm", "label"], ["volume_ref_ml", "volume_pred_ml"]).reset_index()


def volume_agreement(
    cases: pd.DataFrame, arms: Sequence[Arm], scores: Scores, settings: CompareSettings
) -> pd.DataFrame:
    """Describe predicted minus reference volume: one row per label and arm.

    `bias_ml` is the mean over subjects with an interval, `limit_low_ml` and `limit_high_ml` are Bland and Altman's 95 % limits
    of agreement, `absolute_ml` is the mean absolute difference. A fold whose bias stands out widens the interval of
    the bias, and moves the limits outwards by as much as the bias may lie off.

    Parameters
    ----------
    scores : of the same cases, for the sizes of the folds

    References
    ----------
    Bland & Altman, Lancet 1986, 327:307.
    """
    volumes = subject_volumes(cases)
    counts = cases.groupby(["arm", "label"])["case"].nunique()
    rows = []
    for label, of_label in volumes.groupby("label", sort=False):
        for arm in arms:
            own = of_label[of_label["arm"] == arm.name]
            difference = (own["volume_pred_ml"] - own["volume_ref_ml"]).to_numpy(float)
            folds = own["fold"].to_numpy(int)
            clusters = make_clusters(list(own["subject"]), folds)
            found = mean_intervals(difference[:, None], clusters, draws=settings.draws, seed=settings.seed)
            bias, low, high = (float(part[0]) for part in (found.estimate, found.low, found.high))
            lower = upper = LIMITS * difference.std(ddof=1) if len(difference) > 1 else float("nan")
            kind = NETWORKS
            if outlying_groups(difference, folds):
                kind = FOLDS
                wide = hull((low, high), fold_interval(difference, folds, scores.train_sizes, scores.test_sizes))
                lower, upper = lower + low - wide[0], upper + wide[1] - high
                low, high = wide
            rows.append(
                {
                    "label": label,
                    "arm": arm.name,
                    "title": arm.title,
                    "n_cases": int(counts[arm.name, label]),
                    "n_subjects": len(own),
                    "volume_ref_ml": own["volume_ref_ml"].mean(),
                    "bias_ml": bias,
                    "bias_low_ml": low,
                    "bias_high_ml": high,
                    "headline": kind,
                    "limit_low_ml": bias - lower,
                    "limit_high_ml": bias + upper,
                    "absolute_ml": float(np.abs(difference).mean()),
                }
            )
    return pd.DataFrame(rows)
