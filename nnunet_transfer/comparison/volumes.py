"""Agreement of predicted with reference volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import Scores, subject_sums
from nnunet_transfer.comparison.bootstrap import make_clusters, mean_intervals
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.spread import cover_folds

#: half-width of the limits of agreement in standard deviations: 95 % of a normal distribution
LIMITS = 1.96


def subject_volumes(cases: pd.DataFrame) -> pd.DataFrame:
    """Return volumes in ml per arm, label and subject, averaged over seeds and scans.

    Columns: `volume_ref_ml`, `volume_pred_ml`, and `absolute_ml`, the mean absolute difference of single predictions.
    """
    cases = cases.assign(absolute_ml=(cases["volume_pred_ml"] - cases["volume_ref_ml"]).abs())
    return subject_sums(cases, ["arm", "label"], ["volume_ref_ml", "volume_pred_ml", "absolute_ml"]).reset_index()


def volume_agreement(
    cases: pd.DataFrame, arms: Sequence[Arm], scores: Scores, settings: CompareSettings
) -> pd.DataFrame:
    """Describe predicted minus reference volume: one row per label and arm.

    `bias_ml` is the mean over subjects with an interval, `limit_low_ml` and `limit_high_ml` are Bland and Altman's 95 % limits
    of agreement, and `absolute_ml` is the mean absolute difference of single predictions. A fold whose bias stands out widens
    the interval of the bias and moves each limit outwards by as much as the interval widens on that side.

    Parameters
    ----------
    scores : scores of the same cases, for the sizes of the folds

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
            clusters = make_clusters(list(own["subject"]), own["fold"].to_numpy(int))
            values = difference[:, None]
            found = mean_intervals(values, clusters, draws=settings.draws, seed=settings.seed)
            sums, counted = clusters.sums(values), clusters.sums(np.ones(values.shape))
            covered, kinds = cover_folds(found, sums, counted, clusters, scores.ratios, share=False)
            bias, low, high = (float(part[0]) for part in (covered.estimate, covered.low, covered.high))
            spread = LIMITS * difference.std(ddof=1) if len(difference) > 1 else float("nan")
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
                    "headline": kinds[0],
                    "limit_low_ml": bias - spread - (found.low[0] - low),
                    "limit_high_ml": bias + spread + (high - found.high[0]),
                    "absolute_ml": own["absolute_ml"].mean(),
                }
            )
    return pd.DataFrame(rows)
