"""Lesion detection over all cases of a target: pooled counts, and sensitivity by lesion size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import subject_sums, with_subject_folds
from nnunet_transfer.comparison.bootstrap import (
    DEFAULT_LEVEL,
    Clusters,
    FloatArray,
    Intervals,
    cluster_bootstrap,
    make_clusters,
    mean_intervals,
)
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.spread import cover_folds
from nnunet_transfer.evaluation.protocols import LesionProtocol

#: limits of the strata of lesion size in ml; powers of ten, so that targets can be compared
STRATA_ML = (0.01, 0.1, 1.0, 10.0)
STRATA = ("< 0.01", "0.01 to 0.1", "0.1 to 1", "1 to 10", "≥ 10")
KEYS = ["subject", "fold"]


def share_intervals(
    part: FloatArray, whole: FloatArray, clusters: Clusters, settings: CompareSettings, ratios: Mapping[int, float]
) -> Intervals:
    """Estimate shares sum(part) / sum(whole) with intervals over subjects.

    If all or no lesions are detected, all bootstrap samples are equal. The interval is then Clopper and Pearson's, with the
    number of contributing subjects as the number of trials. This is conservative, because it treats the lesions of a subject
    as fully dependent. A fold that stands out widens the interval, see `cover_folds`.

    Parameters
    ----------
    part, whole : counts per row, shape (n_rows, k)
    clusters : subjects of the rows
    ratios : fold -> compared cases divided by training cases

    References
    ----------
    Clopper & Pearson, Biometrika 1934, 26:404.
    """
    parts, sums = clusters.sums(part), clusters.sums(whole)
    found = cluster_bootstrap(parts, sums, clusters.strata, draws=settings.draws, seed=settings.seed)
    found, _ = cover_folds(found, parts, sums, clusters, ratios, share=True)
    subjects = np.maximum((sums > 0).sum(axis=0), 1)
    margin = ((1 - DEFAULT_LEVEL) / 2) ** (1 / subjects)
    low = np.where(found.estimate == 1, margin, np.where(found.estimate == 0, 0.0, found.low))
    high = np.where(found.estimate == 0, 1 - margin, np.where(found.estimate == 1, 1.0, found.high))
    ends = (found.estimate == 0) | (found.estimate == 1)
    method = tuple("Clopper-Pearson" if end else m for end, m in zip(ends, found.method, strict=True))
    return Intervals(found.estimate, low, high, method)


def pooled_detection(
    cases: pd.DataFrame,
    arms: Sequence[Arm],
    protocols: Sequence[LesionProtocol],
    settings: CompareSettings,
    ratios: Mapping[int, float],
) -> pd.DataFrame:
    """Pool the counts of all subjects: one row per arm and protocol.

    Sensitivity is the share of reference lesions that are detected, precision the share of predicted lesions that are
    matched, each with an interval over subjects. Counts are averaged over the scans and seeds of a subject, so that all
    subjects have the same weight. `fp_per_case` is the mean over subjects of the false positives per scan.
    """
    rows = [(arm, protocol) for protocol in protocols for arm in arms]
    if not rows:
        return pd.DataFrame()
    counts = [f"{p.name}_{field}" for p in protocols for field in ("n_ref", "n_pred", "fp", "fn")]
    wide = subject_sums(cases, ["arm"], counts).unstack("arm", fill_value=0.0)
    index = wide.index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))

    def column(arm: Arm, protocol: LesionProtocol, field: str) -> np.ndarray:
        return wide[f"{protocol.name}_{field}", arm.name].to_numpy(float)

    whole = np.stack([column(a, p, n) for a, p in rows for n in ("n_ref", "n_pred")], axis=1)
    missed = np.stack([column(a, p, n) for a, p in rows for n in ("fn", "fp")], axis=1)
    found = share_intervals(whole - missed, whole, clusters, settings, ratios)
    return pd.DataFrame(
        {
            "arm": arm.name,
            "title": arm.title,
            "protocol": protocol.name,
            "n_cases": cases["case"].nunique(),
            "n_subjects": len(wide),
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


def lesion_free(
    cases: pd.DataFrame,
    arms: Sequence[Arm],
    protocols: Sequence[LesionProtocol],
    settings: CompareSettings,
    ratios: Mapping[int, float],
) -> pd.DataFrame:
    """Describe false positives in cases with an empty reference: one row per label and arm, no rows without such cases.

    `n_with_fp` counts the cases in which at least one seed predicts the label; `false_positive_ml` and
    `<protocol>_fp_per_case` are means over subjects of the volume and the number of false lesions per lesion-free case.
    """
    empty = cases[cases["reference_empty"]]
    if not len(empty):
        return pd.DataFrame()
    counts = [f"{p.name}_n_pred" for p in protocols]
    sums = subject_sums(empty, ["label", "arm"], ["volume_pred_ml", *counts])
    rows = []
    for label in dict.fromkeys(empty["label"]):
        of_label = sums.loc[label]
        for arm in arms:
            own = of_label.loc[arm.name]
            index = own.index.to_frame()
            clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
            values = own.to_numpy(float)
            found = mean_intervals(values, clusters, draws=settings.draws, seed=settings.seed)
            parts, counted = clusters.sums(values), clusters.sums(np.ones(values.shape))
            found, _ = cover_folds(found, parts, counted, clusters, ratios, share=False)
            of_arm = empty[(empty["label"] == label) & (empty["arm"] == arm.name)]
            rows.append(
                {
                    "label": label,
                    "arm": arm.name,
                    "title": arm.title,
                    "n_cases": of_arm["case"].nunique(),
                    "n_subjects": len(own),
                    "n_with_fp": of_arm.loc[of_arm["voxels_fp"] > 0, "case"].nunique(),
                    "false_positive_ml": found.estimate[0],
                    "false_positive_low_ml": found.low[0],
                    "false_positive_high_ml": found.high[0],
                    **{f"{p.name}_fp_per_case": found.estimate[i + 1] for i, p in enumerate(protocols)},
                }
            )
    return pd.DataFrame(rows)


def size_sensitivity(
    lesions: pd.DataFrame,
    arms: Sequence[Arm],
    settings: CompareSettings,
    scans: Mapping[str, int],
    ratios: Mapping[int, float],
) -> pd.DataFrame:
    """Return the share of detected reference lesions by size: one row per protocol, arm and stratum.

    Strata without lesions are left out. With several seeds, a lesion counts by the share of seeds that detected it. With
    several scans of a subject, each of n scans has the weight 1 / n.

    Parameters
    ----------
    scans : subject -> number of its scans
    ratios : fold -> compared cases divided by training cases
    """
    columns = ["protocol", "stratum", "arm", "title", "n_lesions", "n_subjects", "sensitivity", "low", "high"]
    if not len(lesions):
        return pd.DataFrame(columns=columns)
    weight = 1 / lesions["subject"].map(scans).to_numpy(float)
    sized = with_subject_folds(lesions).assign(
        stratum=np.digitize(lesions["volume_mm3"] / 1000, STRATA_ML),
        detected=lesions["detected"].astype(float) * weight,
        weight=weight,
        lesions=1.0,
    )
    keys = [*KEYS, "protocol", "stratum", "arm"]
    per_seed = sized.groupby([*keys, "seed"], sort=False, dropna=False)[["detected", "weight", "lesions"]].sum()
    wide = per_seed.groupby(level=keys).mean().unstack(keys[2:], fill_value=0.0).sort_index(axis=1)
    index = wide.index.to_frame()
    clusters = make_clusters(list(index["subject"]), index["fold"].to_numpy(int))
    whole = wide["weight"]
    detected = wide["detected"][whole.columns].to_numpy(float)
    found = share_intervals(detected, whole.to_numpy(float), clusters, settings, ratios)
    titles = {arm.name: arm.title for arm in arms}
    subjects: Any = (whole > 0).groupby(level="subject").any().sum()
    rows = [
        (
            protocol,
            STRATA[stratum],
            arm,
            titles[arm],
            round(wide["lesions", protocol, stratum, arm].sum()),
            int(subjects[protocol, stratum, arm]),
            found.estimate[i],
            found.low[i],
            found.high[i],
        )
        for i, (protocol, stratum, arm) in enumerate(whole.columns)
        if arm in titles
    ]
    return pd.DataFrame(rows, columns=columns)
