"""Lesion detection over all cases of a target: pooled counts, and sensitivity by lesion size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.bootstrap import (
    DEFAULT_LEVEL,
    Clusters,
    FloatArray,
    Intervals,
    cluster_bootstrap,
    make_clusters,
)
from nnunet_transfer.comparison.paired import Settings
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.evaluation.protocols import LesionProtocol

#: limits between strata of lesion size, in ml: powers of ten, so that targets can be compared
STRATA_ML = (0.01, 0.1, 1.0, 10.0)
STRATA = ("< 0.01", "0.01 to 0.1", "0.1 to 1", "1 to 10", "≥ 10")
KEYS = ["case", "subject", "fold"]


def share_intervals(part: FloatArray, whole: FloatArray, clusters: Clusters, settings: Settings) -> Intervals:
    """Estimate shares sum(part) / sum(whole) with intervals over subjects.

    Where all or none is detected every bootstrap sample is alike. There the interval is Clopper and Pearson's for as many
    trials as subjects that contribute, which is the cautious end: lesions of one subject are alike.

    Parameters
    ----------
    part, whole : counts per case, shape (n_cases, k)

    References
    ----------
    Clopper & Pearson, Biometrika 1934, 26:404.
    """
    sums = clusters.sums(whole)
    found = cluster_bootstrap(clusters.sums(part), sums, clusters.strata, draws=settings.draws, seed=settings.seed)
    subjects = np.maximum((sums > 0).sum(axis=0), 1)
    margin = ((1 - DEFAULT_LEVEL) / 2) ** (1 / subjects)
    low = np.where(found.estimate == 1, margin, np.where(found.estimate == 0, 0.0, found.low))
    high = np.where(found.estimate == 0, 1 - margin, np.where(found.estimate == 1, 1.0, found.high))
    ends = (found.estimate == 0) | (found.estimate == 1)
    method = tuple("Clopper-Pearson" if end else m for end, m in zip(ends, found.method, strict=True))
    return Intervals(found.estimate, low, high, method)


def pooled_detection(
    cases: pd.DataFrame, arms: Sequence[Arm], protocols: Sequence[LesionProtocol], settings: Settings
) -> pd.DataFrame:
    """Pool the counts of all cases: one row per arm and protocol.

    Sensitivity is detected over all reference lesions, precision matched over all predicted lesions, each with an
    interval over subjects. With several seeds, counts are means over seeds.
    """
    rows = [(arm, protocol) for protocol in protocols for arm in arms]
    if not rows:
        return pd.DataFrame()
    counts = [f"{p.name}_{field}" for p in protocols for field in ("n_ref", "n_pred", "fp", "fn")]
    per_seed = cases.groupby(["arm", *KEYS, "seed"], sort=False, dropna=False)[counts].sum()
    wide = per_seed.groupby(level=["arm", *KEYS]).mean().unstack("arm", fill_value=0.0)
    index = wide.index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))

    def column(arm: Arm, protocol: LesionProtocol, field: str) -> np.ndarray:
        return wide[f"{protocol.name}_{field}", arm.name].to_numpy(float)

    whole = np.stack([column(a, p, n) for a, p in rows for n in ("n_ref", "n_pred")], axis=1)
    missed = np.stack([column(a, p, n) for a, p in rows for n in ("fn", "fp")], axis=1)
    found = share_intervals(whole - missed, whole, clusters, settings)
    return pd.DataFrame(
        {
            "arm": arm.name,
            "title": arm.title,
            "protocol": protocol.name,
            "n_cases": len(wide),
            "n_ref": whole[:, 2 * i].sum(),
            "n_pred": whole[:, 2 * i + 1].sum(),
            "sensitivity": found.estimate[2 * i],
            "sensitivity_low": found.low[2 * i],
            "sensitivity_high": found.high[2 * i],
            "precision": found.estimate[2 * i + 1],
            "precision_low": found.low[2 * i + 1],
            "precision_high": found.high[2 * i + 1],
            "fp_per_case": missed[:, 2 * i + 1].sum() / len(wide),
        }
        for i, (arm, protocol) in enumerate(rows)
    )


def size_sensitivity(lesions: pd.DataFrame, arms: Sequence[Arm], settings: Settings) -> pd.DataFrame:
    """Return the share of reference lesions that are detected by size: one row per protocol, arm and stratum.

    Strata without lesions are left out. With several seeds, a lesion counts by the share of seeds that detected it.
    """
    columns = ["protocol", "stratum", "arm", "title", "n_lesions", "n_subjects", "sensitivity", "low", "high"]
    if not len(lesions):
        return pd.DataFrame(columns=columns)
    sized = lesions.assign(
        stratum=np.digitize(lesions["volume_mm3"] / 1000, STRATA_ML),
        detected=lesions["detected"].astype(float),
        lesions=1.0,
    )
    per_seed = sized.groupby([*KEYS, "protocol", "stratum", "arm", "seed"], sort=False, dropna=False)
    sums = per_seed[["detected", "lesions"]].sum().groupby(level=[*KEYS, "protocol", "stratum", "arm"]).mean()
    wide = sums.unstack(["protocol", "stratum", "arm"], fill_value=0.0).sort_index(axis=1)
    index = wide.index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
    whole = wide["lesions"]
    detected = wide["detected"][whole.columns].to_numpy(float)
    found = share_intervals(detected, whole.to_numpy(float), clusters, settings)
    titles = {arm.name: arm.title for arm in arms}
    subjects: Any = (whole > 0).groupby(level="subject").any().sum()
    rows = [
        (
            protocol,
            STRATA[stratum],
            arm,
            titles[arm],
            round(whole[protocol, stratum, arm].sum()),
            int(subjects[protocol, stratum, arm]),
            found.estimate[i],
            found.low[i],
            found.high[i],
        )
        for i, (protocol, stratum, arm) in enumerate(whole.columns)
        if arm in titles
    ]
    return pd.DataFrame(rows, columns=columns)
