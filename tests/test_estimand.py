"""Every row of every table has one estimand: subjects, the same in both arms, so that difference = mean - mean."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.comparison.analysis import TargetResult, adjust_family, analyse
from nnunet_transfer.comparison.baselines import choose_baselines
from nnunet_transfer.comparison.metrics import PRIMARY, metric_of
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.evaluation.protocols import PRESETS
from tests.score_tables import random_study

PROTOCOL = PRESETS["atlas_r2"]
SCRATCH, T1, NATURAL = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation", "nnUNetTrainerNaturalClassification"
#: trainers of a study, its folds and labels: seeds, recipes, numbers of cases, one arm
STUDIES = {
    "two arms": ([SCRATCH, T1], 4, 1),
    "two labels": ([SCRATCH, T1, NATURAL], 3, 2),
    "seeds": ([f"{arm}_seed{k}" for arm in (SCRATCH, T1) for k in range(3)], 3, 1),
    "one arm with more seeds": ([SCRATCH, f"{T1}_seed0", f"{T1}_seed1"], 2, 1),
    "recipes": ([f"{arm}{recipe}" for arm in (SCRATCH, T1) for recipe in ("_lpft", "_sawtooth")], 4, 1),
    "numbers of cases": ([f"{arm}{n}" for arm in (SCRATCH, T1) for n in ("", "_3cases")], 2, 1),
    "numbers of cases and recipes": (
        [f"{arm}{recipe}{n}" for arm in (SCRATCH, T1) for recipe in ("", "_adamw") for n in ("_1cases", "_3cases")],
        3,
        1,
    ),
    "lengths": ([SCRATCH + "_8epochs", *(f"{T1}_{n}epochs" for n in (2, 4, 8))], 3, 1),
    "one arm": ([T1], 2, 1),
    "no lesion anywhere": ([SCRATCH, T1], 2, 1),
}
#: with the rule for empty references; both rules where nothing else is special
COMBINATIONS = [("two arms", "score"), ("two arms", "leave-out"), ("two labels", "score")] + [
    (name, "leave-out" if i % 2 else "score") for i, name in enumerate(STUDIES) if not name.startswith("two arms")
]


@cache
def study(name: str, empty: str) -> TargetResult:
    seed = list(STUDIES).index(name)
    trainers, folds, labels = STUDIES[name]
    share, rng = (1.0 if name == "no lesion anywhere" else 0.3), np.random.default_rng(seed)
    target, runs, cases = random_study(rng, PROTOCOL, trainers, folds=folds, labels=labels, empty=share)
    lesions = pd.DataFrame(columns=["arm", "subject", "fold", "protocol", "volume_mm3", "detected", "seed"])
    settings = CompareSettings(protocols=["atlas_r2"], draws=100, empty=empty)
    baselines = choose_baselines(runs, T1 if name == "one arm" else SCRATCH, target.dataset)
    return adjust_family([analyse(target, runs, baselines, cases, lesions, (), settings)])[0]


def of_subjects(cases: pd.DataFrame, arm: str, metric: str) -> dict[str, float]:
    """Average a metric over labels, seeds and scans by plain loops; subject -> score, without those that have none."""
    own = cases[cases["arm"] == arm]
    found: dict[str, list[float]] = {}
    for case in dict.fromkeys(own["case"]):
        rows = own[own["case"] == case]
        seeds = [s for s in dict.fromkeys(rows["seed"].fillna(-1))]
        values = [rows.loc[rows["seed"].fillna(-1) == seed, metric].dropna().to_numpy() for seed in seeds]
        per_seed = [v.mean() for v in values if len(v)]
        if per_seed:
            found.setdefault(rows["subject"].iloc[0], []).append(float(np.mean(per_seed)))
    return {subject: float(np.mean(scans)) for subject, scans in found.items()}


@pytest.mark.parametrize(("name", "empty"), COMBINATIONS)
def test_every_difference_is_that_of_the_means_over_the_same_subjects(name: str, empty: str) -> None:
    result = study(name, empty)
    means = result.summary.set_index("arm")
    seen = set()
    for table in (result.tests, result.pairs.assign(metric=PRIMARY)):
        for _, row in table.iterrows():
            metric = row["metric"]
            first, second = (of_subjects(result.cases, row[key], metric) for key in ("arm", "compared_with"))
            # whether a subject counts follows from the reference: both arms have the same
            assert first.keys() == second.keys()
            assert row["n_subjects"] == len(first)
            expected = [np.mean(list(part.values())) if part else np.nan for part in (first, second)]
            assert [row["mean"], row["mean_baseline"]] == pytest.approx(expected, nan_ok=True)
            assert row["difference"] == pytest.approx(row["mean"] - row["mean_baseline"], abs=1e-9, nan_ok=True)
            # and they are the means in the first table, with their numbers of cases
            assert row["mean"] == pytest.approx(means.loc[row["arm"], metric], nan_ok=True)
            for arm in (row["arm"], row["compared_with"]):
                assert row["n_cases"] == means.loc[arm, f"n_with_{metric}"]
                assert row["n_subjects"] == means.loc[arm, f"n_subjects_with_{metric}"]
            assert row["n_informative"] == sum(abs(first[s] - second[s]) > 1e-9 for s in first)
            if np.isfinite(row["low"]):
                assert row["headline_low"] <= row["low"] <= row["high"] <= row["headline_high"]
                if metric_of(metric, result.protocols).share:
                    assert -1 <= row["headline_low"] <= row["headline_high"] <= 1
            seen.add(metric)
    if name != "one arm":
        second_family = {
            "hd95_mm",
            "nsd",
            "absolute_volume_difference_ml",
            "atlas_r2_sensitivity",
            "atlas_r2_precision",
        }
        assert second_family | {"dice", "iou", "atlas_r2_f1", "atlas_r2_count_difference"} == seen


@pytest.mark.parametrize(("name", "empty"), COMBINATIONS)
def test_the_other_tables_hold_the_same_numbers(name: str, empty: str) -> None:
    result = study(name, empty)
    means = result.summary.set_index("arm")[PRIMARY]
    tests = result.tests[result.tests["metric"] == PRIMARY].set_index("arm") if len(result.tests) else result.tests
    for arm, difference in tests["difference"].items():
        assert result.grid.set_index("arm")["difference"].get(arm, difference) == pytest.approx(difference, nan_ok=True)
        folds = result.folds[(result.folds["arm"] == arm) & (result.folds["seed"] == "all")]
        weights = folds["n_subjects"]
        if not weights.sum():
            assert name == "no lesion anywhere"
            continue
        assert np.average(folds["difference"].fillna(0), weights=weights) == pytest.approx(difference)
        assert np.average(folds[PRIMARY].fillna(0), weights=weights) == pytest.approx(means[arm])
    for table in (result.recipes, result.curves, result.lengths):
        if not len(table):
            continue
        for _, row in table[table["difference"].notna()].iterrows():
            same = table["training_cases"] == row["training_cases"] if "training_cases" in table else True
            if name == "numbers of cases and recipes" and table is result.curves:
                # compared with scratch of the same recipe
                same &= table["arm"].str.contains("adamw") == ("adamw" in row["arm"])
            control = table[same & table["difference"].isna()].iloc[0]
            assert row["difference"] == pytest.approx(row[PRIMARY] - control[PRIMARY])
            assert row["n_subjects"] == result.n_counted
    assert (len(result.recipes) > 0) == (name in ("recipes", "numbers of cases and recipes"))
    assert (len(result.curves) > 0) == name.startswith("numbers of cases")
    assert (len(result.lengths) > 0) == (name == "lengths")
    absolute = result.summary.set_index("arm")["absolute_volume_difference_ml"]
    if len(result.target.label_set.labels) == 1:
        assert dict(result.volumes.set_index("arm")["absolute_ml"]) == pytest.approx(dict(absolute))
    if len(result.lesion_free):
        free = result.cases[result.cases["reference_empty"]]
        for _, row in result.lesion_free.iterrows():
            own = free[(free["arm"] == row["arm"]) & (free["label"] == row["label"])]
            assert row["n_cases"] == own["case"].nunique()
            assert row["n_with_fp"] == own.loc[own["voxels_fp"] > 0, "case"].nunique()
            fp = np.mean([scans.groupby("case")["volume_pred_ml"].mean().mean() for _, scans in own.groupby("subject")])
            assert row["false_positive_ml"] == pytest.approx(fp)
