"""A fold or a seed whose networks failed is named, and every interval of the arm covers it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.comparison.averages import Scores
from nnunet_transfer.comparison.bootstrap import make_clusters
from nnunet_transfer.comparison.curves import learning_curves
from nnunet_transfer.comparison.folds import find_outliers
from nnunet_transfer.comparison.lesions import share_intervals
from nnunet_transfer.comparison.paired import every_pair, paired_table
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.volumes import volume_agreement
from nnunet_transfer.naming import parse_trainer_name

SETTINGS = CompareSettings(draws=200)
SCRATCH, T1 = (
    Arm(name, name, parse_trainer_name(name)) for name in ("nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation")
)
N_FOLDS, N = 5, 60


def scores_of(values: dict[str, np.ndarray], n_folds: int = N_FOLDS) -> Scores:
    """Values of shape (subjects,) or (subjects, seeds) per arm; subject i is in fold i % n_folds."""
    runs = pd.DataFrame(
        {"arm": arm, "case": f"c{i}", "subject": f"s{i:02d}", "fold": i % n_folds, "seed": seed, "dice": value}
        for arm, scores in values.items()
        for i, own in enumerate(scores)
        for seed, value in enumerate(np.atleast_1d(own))
    )
    per_case = runs.groupby(["arm", "case", "subject", "fold"], sort=False)["dice"].mean().reset_index()
    sizes = per_case[per_case["arm"] == SCRATCH.name]["fold"].value_counts().to_dict()
    train = {fold: sum(sizes.values()) - n for fold, n in sizes.items()}
    return Scores(per_case, per_case.drop(columns="case"), runs.drop(columns="case"), train, sizes)


def usual(seed: int = 0, shape: tuple[int, ...] = (N,)) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(0.8, 0.04, shape), 0, 1)


def with_folds(values: np.ndarray, folds: tuple[int, ...], score: float, n_folds: int = N_FOLDS) -> np.ndarray:
    """Return the scores with some folds around another mean."""
    changed = values.copy()
    inside = np.isin(np.arange(len(values)) % n_folds, folds)
    changed[inside] = np.clip(values[inside] - values[inside].mean() + score, 0, 1)
    return changed


@pytest.mark.parametrize(
    ("n_folds", "failed", "score"),
    [
        *((5, failed, 0.0) for failed in [(0,), (1, 3), (0, 2, 4), (0, 1, 2, 4)]),
        *((5, (2,), 0.6), (2, (1,), 0.0), (2, (1,), 0.5), (4, (0, 2), 0.1), (3, (0, 2), 0.05)),
    ],
)
@pytest.mark.parametrize("lower", ["arm", "baseline", "only arm"])
def test_the_folds_that_failed_are_named_not_those_that_did_well(
    n_folds: int, failed: tuple[int, ...], score: float, lower: str
) -> None:
    good, bad = usual(1), with_folds(usual(2), failed, score, n_folds)
    values = {"arm": (good, bad), "baseline": (bad, good), "only arm": (bad,)}[lower]
    arms = (SCRATCH, T1)[: len(values)]
    scores = scores_of(dict(zip((arm.name for arm in arms), values, strict=True)), n_folds)
    outliers = find_outliers(scores, arms, [(T1, SCRATCH)] if len(arms) == 2 else [])
    culprit = T1.name if lower == "arm" else SCRATCH.name
    assert [(o.arm, o.fold, o.seed) for o in outliers] == [(culprit, fold, None) for fold in failed]
    for outlier in outliers:
        assert outlier.mean == pytest.approx(score, abs=0.03)
        assert outlier.others == pytest.approx(0.8, abs=0.03)


def test_chance_names_no_fold_and_an_easy_fold_is_named_in_every_arm() -> None:
    named = 0
    for seed in range(60):
        scores = scores_of({SCRATCH.name: usual(seed), T1.name: usual(seed + 1000)})
        named += len(find_outliers(scores, (SCRATCH, T1), [(T1, SCRATCH)]))
    assert named <= 1
    easy = {arm.name: with_folds(usual(i), (3,), 0.95) for i, arm in enumerate((SCRATCH, T1))}
    found = find_outliers(scores_of(easy), (SCRATCH, T1), [(T1, SCRATCH)])
    assert [(o.arm, o.fold) for o in found] == [(SCRATCH.name, 3), (T1.name, 3)]


@pytest.mark.parametrize("failed", [(1,), (0, 2)])
@pytest.mark.parametrize("n_seeds", [2, 3])
def test_the_seeds_of_a_fold_that_failed_are_named(failed: tuple[int, ...], n_seeds: int) -> None:
    if max(failed) >= n_seeds:
        pytest.skip("there is no such seed")
    values = usual(3, (N, n_seeds))
    inside = np.arange(N) % N_FOLDS == 2
    values[np.ix_(inside, failed)] = 0.05
    found = find_outliers(scores_of({T1.name: values}), [T1], [])
    seeds = [(o.fold, o.seed) for o in found if o.seed is not None]
    assert seeds == [(2, seed) for seed in failed]


def test_every_table_quotes_an_interval_that_covers_the_fold_that_failed() -> None:
    rng = np.random.default_rng(5)
    scores = scores_of({SCRATCH.name: usual(1), T1.name: with_folds(usual(1) + rng.normal(0, 0.01, N), (0,), 0.0)})
    row = paired_table(scores, [(T1, SCRATCH)], ["dice"], SETTINGS).iloc[0]
    # what resampling within folds sees, and what all folds say: they range from -0.8 to 0
    assert row["high"] - row["low"] < 0.02
    assert row["headline"] == "folds vary"
    assert row["headline_low"] < -0.5
    assert row["headline_high"] > 0
    pair = every_pair(scores, [SCRATCH, T1], "dice", SETTINGS, ()).iloc[0]
    assert (pair["headline_low"], pair["headline_high"]) == pytest.approx((-row["headline_high"], -row["headline_low"]))
    whole = np.full((N, 1), 4.0)
    found = np.where(np.arange(N) % N_FOLDS == 0, 0.0, 4.0)[:, None] * (rng.random((N, 1)) < 0.95)
    clusters = make_clusters([f"s{i:02d}" for i in range(N)], np.arange(N) % N_FOLDS)
    interval = share_intervals(found, whole, clusters, SETTINGS, scores.ratios)
    assert interval.low[0] < 0.2
    assert interval.high[0] > 0.95
    cases = pd.DataFrame({"volume_ref_ml": 10.0, "volume_pred_ml": 10 * found[:, 0] / 4 + rng.normal(0, 0.1, N)})
    cases = cases.assign(arm=T1.name, label="lesion", seed=0, fold=np.arange(N) % N_FOLDS, site="")
    cases = cases.assign(case=[f"c{i}" for i in range(N)], subject=[f"s{i:02d}" for i in range(N)])
    volumes = volume_agreement(cases, [T1], scores, SETTINGS).iloc[0]
    # the failures of one fold, 10 ml each, lie inside the limits
    assert volumes["headline"] == "folds vary"
    assert volumes["limit_low_ml"] < -10
    assert volumes["bias_low_ml"] < -6


def test_a_pair_of_arms_has_one_interval_wherever_a_seed_failed() -> None:
    first, second = usual(1, (N, 3)), usual(2, (N, 3))
    second[np.arange(N) % N_FOLDS == 1, 0] = 0.05
    scores = scores_of({SCRATCH.name: first, T1.name: second})
    unsteady = {o.arm for o in find_outliers(scores, [SCRATCH, T1], []) if o.seed is not None}
    assert unsteady == {T1.name}
    row = paired_table(scores, [(T1, SCRATCH)], ["dice"], SETTINGS, unsteady=unsteady, again=["dice"]).iloc[0]
    assert row["headline_low"] <= row["procedure_low"] < row["low"]
    # its fold stands out, too; otherwise the trainings vary
    assert row["headline"] == "folds vary"
    alike = scores_of({SCRATCH.name: first, T1.name: usual(2, (N, 3))})
    assert list(paired_table(alike, [(T1, SCRATCH)], ["dice"], SETTINGS, unsteady=unsteady)["headline"]) == [
        "trainings vary"
    ]
    pair = every_pair(scores, [T1, SCRATCH], "dice", SETTINGS, unsteady).iloc[0]
    assert (pair["headline_low"], pair["headline_high"]) == (row["headline_low"], row["headline_high"])
    small = [Arm(f"{arm.name}_3cases", arm.title, parse_trainer_name(f"{arm.name}_3cases")) for arm in (SCRATCH, T1)]
    values = {SCRATCH.name: first, T1.name: second, small[0].name: first - 0.2, small[1].name: second - 0.04}
    baselines = {T1: SCRATCH, small[1]: small[0]}
    curves = learning_curves(scores_of(values), [SCRATCH, T1, *small], baselines, "dice", SETTINGS, unsteady)
    curve = curves.set_index("arm").loc[T1.name]
    assert (curve["difference_low"], curve["difference_high"]) == (row["headline_low"], row["headline_high"])
