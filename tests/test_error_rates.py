"""How often tests and intervals err where nothing differs: simulations, each with its expected error of chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from nnunet_transfer.comparison.bootstrap import Clusters, make_clusters, mean_intervals
from nnunet_transfer.comparison.procedure import two_level_interval
from nnunet_transfer.comparison.statistics import holm, nadeau_bengio, wilcoxon_p

ALPHA = 0.05
FOLDS = 5


def at_most(rate: float, runs: int) -> float:
    """The highest rate of errors that chance explains, three standard errors above `rate`."""
    return rate + 3 * np.sqrt(rate * (1 - rate) / runs)


def subjects_in_folds(n: int) -> tuple[Clusters, np.ndarray]:
    folds = np.arange(n) % FOLDS
    return make_clusters([f"s{i:03d}" for i in range(n)], folds), folds


def test_wilcoxon_rejects_at_the_stated_rate() -> None:
    rng, runs = np.random.default_rng(8), 600
    p = np.array([wilcoxon_p(rng.laplace(0, 0.05, 30)) for _ in range(runs)])
    assert abs((p < ALPHA).mean() - ALPHA) < 3 * np.sqrt(ALPHA * (1 - ALPHA) / runs)


@dataclass(frozen=True)
class SparseRates:
    """Rates at which equal arms are called different where most subjects score the same in both."""

    exact: float
    asymptotic: float
    interval: float
    verdict: float


def sparse_differences(n: int, differing: int, runs: int, draws: int = 300) -> SparseRates:
    """Compare two equal arms `runs` times: of n subjects, `differing` differ, by chance in either direction."""
    rng, errors = np.random.default_rng(9), np.zeros(4)
    clusters, _ = subjects_in_folds(n)
    for _ in range(runs):
        d = np.zeros(n)
        d[rng.choice(n, differing, replace=False)] = rng.normal(0, 0.05, differing)
        found = mean_intervals(d[:, None], clusters, draws=draws, seed=1)
        p, away = wilcoxon_p(d), not found.low[0] <= 0 <= found.high[0]
        pratt = stats.wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue
        errors += (p < ALPHA, pratt < ALPHA, away, p < ALPHA and away)
    return SparseRates(*(errors / runs))


@pytest.mark.parametrize(("n", "differing"), [(14, 5), (40, 6), (100, 8)])
def test_few_subjects_that_differ_call_no_equal_arms_different(n: int, differing: int) -> None:
    runs = 250
    rates = sparse_differences(n, differing, runs)
    assert rates.exact <= at_most(ALPHA, runs)
    assert rates.verdict <= at_most(ALPHA, runs)
    # neither the normal approximation nor the interval alone can be trusted here
    assert max(rates.asymptotic, rates.interval) > ALPHA


def test_holm_keeps_the_error_rate_of_a_family_that_shares_its_baseline() -> None:
    rng, runs = np.random.default_rng(5), 300
    unadjusted = adjusted = 0
    for _ in range(runs):
        scores = rng.normal(0.7, 0.05, (30, 7))
        p = np.array([wilcoxon_p(scores[:, i] - scores[:, 0]) for i in range(1, 7)])
        unadjusted += p.min() < ALPHA
        adjusted += holm(p).min() < ALPHA
    assert adjusted / runs <= at_most(ALPHA, runs)
    assert unadjusted / runs > 2 * ALPHA


@pytest.mark.parametrize(("n", "least"), [(8, 0.82), (20, 0.88), (60, 0.91)])
def test_intervals_cover_nearly_as_often_as_stated(n: int, least: float) -> None:
    """A bootstrap is a little short for few subjects, which the report says below 20."""
    rng, runs, hits = np.random.default_rng(3), 300, 0
    clusters, _ = (
        subjects_in_folds(n) if n >= 20 else (make_clusters([str(i) for i in range(n)], np.arange(n) % 2), None)
    )
    for _ in range(runs):
        found = mean_intervals(rng.normal(0, 0.05, n)[:, None], clusters, draws=400, seed=1)
        hits += found.low[0] <= 0 <= found.high[0]
    assert least <= hits / runs <= 0.98


def test_several_scans_of_a_subject_need_the_bootstrap_of_subjects() -> None:
    rng, runs = np.random.default_rng(4), 200
    subjects = [f"s{i // 4:03d}" for i in range(160)]
    clustered = make_clusters(subjects, np.zeros(160, int))
    naive = make_clusters([f"c{i:03d}" for i in range(160)], np.zeros(160, int))
    hits = {"clustered": 0, "naive": 0}
    for _ in range(runs):
        values = (np.repeat(rng.normal(0, 0.05, 40), 4) + rng.normal(0, 0.02, 160))[:, None]
        for name, clusters in (("clustered", clustered), ("naive", naive)):
            found = mean_intervals(values, clusters, draws=300)
            hits[name] += found.low[0] <= 0 <= found.high[0]
    assert hits["clustered"] / runs > 0.89
    assert hits["naive"] / runs < 0.8


@dataclass(frozen=True)
class Rates:
    """Rates at which two equal procedures are called different."""

    wilcoxon: float
    two_level: float
    nadeau_bengio: float


def equal_procedures(run_sd: float, seeds: int, runs: int) -> Rates:
    """Train two equal procedures `runs` times: 100 cases, 5 folds, and every training has an effect of its own."""
    rng = np.random.default_rng(6)
    clusters, folds = subjects_in_folds(100)
    errors = np.zeros(3)
    for _ in range(runs):
        arms = []
        for _ in range(2):
            training = rng.normal(0, run_sd, (FOLDS, seeds))
            arms.append(rng.normal(0.7, 0.04, 100)[:, None] + training[folds] + rng.normal(0, 0.04, (100, seeds)))
        low, high = two_level_interval(*arms, clusters, draws=300)
        one_seed = arms[0][:, 0] - arms[1][:, 0]
        by_fold = np.array([one_seed[folds == k].mean() for k in range(FOLDS)])
        errors += (
            wilcoxon_p(arms[0].mean(1) - arms[1].mean(1)) < ALPHA,
            not low <= 0 <= high,
            nadeau_bengio(by_fold, test_train_ratio=1 / (FOLDS - 1)).p < ALPHA,
        )
    return Rates(*(errors / runs))


@pytest.mark.parametrize("seeds", [2, 3])
def test_claims_on_procedures_hold_where_training_runs_vary(seeds: int) -> None:
    runs = 200
    rates = equal_procedures(0.03, seeds, runs)
    assert rates.two_level <= at_most(ALPHA, runs)
    assert rates.nadeau_bengio <= at_most(ALPHA, runs)
    # what a test on the networks at hand would claim of procedures
    assert rates.wilcoxon > 3 * ALPHA


def test_the_two_level_interval_finds_a_difference_larger_than_the_runs_vary() -> None:
    rng = np.random.default_rng(2)
    clusters, folds = subjects_in_folds(60)
    scratch, better = (rng.normal(mean, 0.05, (60, 3)) + rng.normal(0, 0.01, (FOLDS, 3))[folds] for mean in (0.6, 0.7))
    low, high = two_level_interval(better, scratch, clusters, draws=500)
    assert 0.05 < low < 0.1 < high < 0.15


def test_the_two_level_interval_turns_round_with_the_arms() -> None:
    rng = np.random.default_rng(7)
    clusters, _ = subjects_in_folds(40)
    first, second = rng.normal(0.6, 0.1, (2, 40, 2))
    first[3, 0] = np.nan  # a case without a score in one run
    low, high = two_level_interval(first, second, clusters, draws=4000)
    back = two_level_interval(second, first, clusters, draws=4000)
    assert (low, high) == pytest.approx((-back[1], -back[0]), abs=0.004)
