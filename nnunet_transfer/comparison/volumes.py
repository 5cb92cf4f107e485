"""Agreement of predicted with reference volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.bootstrap import make_clusters, mean_intervals
from nnunet_transfer.comparison.paired import Settings
from nnunet_transfer.comparison.results import Arm

#: half-width of the limits of agreement in standard deviations: 95 % of a normal distribution
LIMITS = 1.96


def case_volumes(cases: pd.DataFrame) -> pd.DataFrame:
    """Return reference and predicted volume in ml per arm, label and case, averaged over seeds."""
    keys = ["arm", "label", "case", "subject", "fold"]
    volumes = ["volume_ref_ml", "volume_pred_ml"]
    return cases.groupby(keys, sort=False, dropna=False)[volumes].mean().reset_index()


def volume_agreement(cases: pd.DataFrame, arms: Sequence[Arm], settings: Settings) -> pd.DataFrame:
    """Describe predicted minus reference volume: one row per label and arm.

    `bias_ml` is the mean with an interval over subjects, `limit_low_ml` and `limit_high_ml` are Bland and Altman's 95 %
    limits of agreement, `absolute_ml` is the mean absolute difference.

    References
    ----------
    Bland & Altman, Lancet 1986, 327:307.
    """
    volumes = case_volumes(cases)
    rows = []
    for label, of_label in volumes.groupby("label", sort=False):
        for arm in arms:
            own = of_label[of_label["arm"] == arm.name]
            difference = (own["volume_pred_ml"] - own["volume_ref_ml"]).to_numpy(float)
            clusters = make_clusters(list(own["subject"]), own["fold"].to_numpy(int))
            bias = mean_intervals(difference[:, None], clusters, draws=settings.draws, seed=settings.seed)
            spread = LIMITS * difference.std(ddof=1) if len(difference) > 1 else float("nan")
            rows.append(
                {
                    "label": label,
                    "arm": arm.name,
                    "title": arm.title,
                    "n_cases": len(own),
                    "volume_ref_ml": own["volume_ref_ml"].mean(),
                    "bias_ml": bias.estimate[0],
                    "bias_low_ml": bias.low[0],
                    "bias_high_ml": bias.high[0],
                    "limit_low_ml": bias.estimate[0] - spread,
                    "limit_high_ml": bias.estimate[0] + spread,
                    "absolute_ml": float(np.abs(difference).mean()),
                }
            )
    return pd.DataFrame(rows)
