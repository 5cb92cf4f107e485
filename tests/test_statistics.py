"""Statistics against other implementations, and what must hold whatever the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from nnunet_transfer.comparison.averages import average_scores
from nnunet_transfer.comparison.bootstrap import cluster_weights, make_clusters, mean_intervals
from nnunet_transfer.comparison.ranking import rank_stability
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.statistics import complete, informative_pairs, rank_biserial, wilcoxon_p
from nnunet_transfer.comparison.volumes import volume_agreement
from nnunet_transfer.naming import TrainerName

DIFFERENCES = arrays(float, st.integers(1, 25), elements=st.floats(-0.5, 0.5, width=16))


def own_subjects(n: int, folds: int = 1):
    """Each case its own subject."""
    return make_clusters([f"s{i:03d}" for i in range(n)], np.arange(n) % folds)


def test_intervals_agree_with_scipy_where_it_can_do_the_same() -> None:
    # one stratum, one case per subject: the plain BCa bootstrap of a mean
    values = np.random.default_rng(0).gamma(1.0, 0.1, 40)
    found = mean_intervals(values[:, None], own_subjects(40), draws=20_000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    width = expected.high - expected.low
    assert found.method == ("BCa",)
    assert found.estimate[0] == pytest.approx(values.mean())
    assert found.low[0] == pytest.approx(expected.low, abs=0.03 * width)
    assert found.high[0] == pytest.approx(expected.high, abs=0.03 * width)


def test_repeating_every_scan_of_a_subject_narrows_no_interval() -> None:
    values = np.random.default_rng(1).normal(size=30)
    once = mean_intervals(values[:, None], own_subjects(30), draws=2000)
    subjects = [f"s{i:03d}" for i in range(30) for _ in range(4)]
    four_times = mean_intervals(np.repeat(values, 4)[:, None], make_clusters(subjects, np.zeros(120, int)), draws=2000)
    assert (four_times.low[0], four_times.high[0]) == pytest.approx((once.low[0], once.high[0]))


def test_every_fold_keeps_its_number_of_subjects() -> None:
    strata = np.array([0, 0, 0, 1, 1, 2])
    weights = np.concatenate(list(cluster_weights(strata, 1200, seed=0)))
    assert weights.shape == (1200, 6)
    assert weights[:, :3].sum(1) == pytest.approx(3)
    # a fold of one subject can't vary by itself: it is joined with the smallest other
    assert weights[:, 3:].sum(1) == pytest.approx(3)
    assert weights.mean(0) == pytest.approx(1, abs=0.1)


def test_one_subject_per_fold_gives_the_interval_without_folds() -> None:
    values = np.random.default_rng(2).normal(size=(8, 1))
    subjects = [f"s{i}" for i in range(8)]
    each = mean_intervals(values, make_clusters(subjects, np.arange(8)), draws=2000)
    none = mean_intervals(values, make_clusters(subjects, np.zeros(8, int)), draws=2000)
    assert (each.low[0], each.high[0]) == (none.low[0], none.high[0])
    assert each.high[0] > each.low[0]


def test_equal_values_get_a_point_and_too_few_subjects_no_interval() -> None:
    equal = mean_intervals(np.full((10, 1), 0.3), own_subjects(10), draws=200)
    assert (equal.low[0], equal.high[0], equal.method) == (pytest.approx(0.3), pytest.approx(0.3), ("percentile",))
    alone = mean_intervals(np.array([[0.2], [0.4]]), make_clusters(["a", "a"], np.zeros(2, int)))
    assert alone.estimate[0] == pytest.approx(0.3)
    assert np.isnan([alone.low[0], alone.high[0]]).all()


def test_missing_values_are_left_out_of_mean_and_count() -> None:
    values = np.array([0.1, np.nan, 0.3, 0.5])
    assert mean_intervals(values[:, None], own_subjects(4), draws=200).estimate[0] == pytest.approx(0.3)


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_what_holds_for_any_differences(d: np.ndarray) -> None:
    assert -1 <= rank_biserial(d) <= 1
    assert rank_biserial(d) == pytest.approx(-rank_biserial(-d))
    p, informative = wilcoxon_p(d), informative_pairs(d)
    assert informative == np.count_nonzero(complete(d))
    assert np.isnan(p) if len(complete(d)) < 6 or informative < 4 else 2.0**-informative < p <= 1
    assert p == pytest.approx(wilcoxon_p(-d), nan_ok=True)


def test_rounding_errors_break_no_ties() -> None:
    a = np.array([0.3, 0.6, 0.9, 0.5, 0.4, 0.8, 0.7])
    d = (a + 0.1) - a  # 0.1 up to rounding
    assert len(np.unique(d)) > 1
    assert wilcoxon_p(d) == wilcoxon_p(np.full(7, 0.1))


@settings(max_examples=40, deadline=None)
@given(arrays(float, st.integers(6, 11), elements=st.sampled_from([-0.3, -0.2, -0.1, 0.0, 0.0, 0.1, 0.2, 0.25])))
def test_exact_p_values_agree_with_all_permutations(d: np.ndarray) -> None:
    if informative_pairs(d) < 4:
        assert np.isnan(wilcoxon_p(d))
        return
    ranks = stats.rankdata(np.abs(complete(d)))

    def signed_ranks(x: np.ndarray, axis: int) -> np.ndarray:
        return (np.sign(x) * ranks).sum(axis=axis)

    expected = stats.permutation_test((d,), signed_ranks, permutation_type="samples", n_resamples=np.inf)
    assert wilcoxon_p(d) == pytest.approx(expected.pvalue)


@st.composite
def sparse_and_tied(draw: st.DrawFn) -> np.ndarray:
    """Up to 60 differences, of which up to nine are not 0, with ties among them."""
    values = draw(arrays(float, st.integers(4, 9), elements=st.sampled_from([-0.3, -0.2, -0.1, 0.1, 0.2, 0.2, 0.25])))
    zeros = np.zeros(draw(st.integers(2, 51)))
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(np.concatenate([values, zeros]))


@settings(max_examples=100, deadline=None)
@given(sparse_and_tied())
def test_exact_p_values_of_sparse_differences_agree_with_all_permutations(d: np.ndarray) -> None:
    # flipping a zero changes nothing, so that flips of the others are all there are; the zeros keep their ranks
    ranks = stats.rankdata(np.abs(complete(d)))[complete(d) != 0]

    def signed_ranks(x: np.ndarray, axis: int) -> np.ndarray:
        return (np.sign(x) * ranks).sum(axis=axis)

    expected = stats.permutation_test((d[d != 0],), signed_ranks, permutation_type="samples", n_resamples=np.inf)
    assert wilcoxon_p(d) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("informative", "n", "p"), [(5, 14, 2 / 32), (4, 14, 2 / 16), (5, 40, 2 / 32), (6, 100, 2 / 64)]
)
def test_ties_add_no_evidence(informative: int, n: int, p: float) -> None:
    d = np.zeros(n)
    d[:informative] = 0.05 + 0.01 * np.arange(informative)
    assert wilcoxon_p(d) == pytest.approx(p)
    d[: informative - 3] = 0
    if informative < 7:
        assert np.isnan(wilcoxon_p(d))


def test_exact_and_approximate_p_meet() -> None:
    rng = np.random.default_rng(3)
    for n in (40, 50, 51, 80):
        d = rng.normal(0.02, 0.1, n)
        assert wilcoxon_p(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=0.03, abs=0.003)


def test_effect_size_of_a_worked_example() -> None:
    # ranks of |d|: 1, 2, 3, 4, 5; favourable 1 + 3 + 4 + 5 = 13, unfavourable 2: (13 - 2) / 15
    assert rank_biserial(np.array([0.1, -0.2, 0.3, 0.4, 0.5, 0.0])) == pytest.approx(11 / 15)


def test_ranks_of_clear_and_of_equal_arms() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.1, 40)
    values = np.stack([base, base + 0.1, base, base - 0.1], axis=1)
    found = rank_stability(values, own_subjects(40, 5), draws=500)
    assert found is not None
    assert list(found.rank) == [2.5, 1, 2.5, 4]
    assert found.shares == pytest.approx(np.array([[0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]))
    assert (list(found.low), list(found.high)) == ([2.5, 1, 2.5, 4], [2.5, 1, 2.5, 4])
    assert found.tau == pytest.approx(5 / 6)  # five of six pairs are ordered, always alike


def test_ranks_use_complete_cases_only() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.5, 0.1, (30, 3))
    spoiled = np.concatenate([values, [[np.nan, 9.0, 9.0]]])
    clusters = own_subjects(31)
    assert rank_stability(spoiled, clusters, draws=50).n_rows == 30
    assert list(rank_stability(spoiled, clusters, draws=50).rank) == list(stats.rankdata(-values.mean(0)))
    assert rank_stability(np.full((5, 2), np.nan), own_subjects(5)) is None


def test_arms_that_differ_by_chance_only_share_the_first_rank() -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, (200, 2))
    values -= values.mean(0)
    found = rank_stability(values, own_subjects(200, 5), draws=4000)
    assert found.shares[:, 0] == pytest.approx([0.5, 0.5], abs=0.04)
    assert abs(found.tau) < 0.08


def test_signed_rank_test_of_a_published_example() -> None:
    # Hollander & Wolfe, Nonparametric Statistical Methods, 1973, p. 29: Hamilton depression scale before and after a
    # tranquilliser; R's ?wilcox.test has V = 40 and a one-sided p of 0.01953
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    assert wilcoxon_p(before - after) == pytest.approx(2 * 0.01953, abs=1e-5)
    assert rank_biserial(before - after) == pytest.approx((40 - 5) / 45)


def test_limits_of_agreement_of_a_published_example() -> None:
    # Bland & Altman, Lancet 1986, 327:307, table 1: peak flow by two meters, mean difference -2.1, SD 38.8 l/min
    wright = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    mini = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    cases = pd.DataFrame({"volume_pred_ml": wright, "volume_ref_ml": mini}).assign(
        arm="a", label="flow", fold=0, seed=0
    )
    cases = cases.assign(case=cases.index.astype(str), subject=cases.index.astype(str), site="")
    arm = Arm("a", "A", TrainerName("nnUNetTrainerScratch"))
    scores = average_scores(cases, ["volume_pred_ml"], {0: 17})
    row = volume_agreement(cases, [arm], scores, CompareSettings(draws=200)).iloc[0]
    assert row["bias_ml"] == pytest.approx(-2.1, abs=0.05)
    assert row["limit_high_ml"] - row["bias_ml"] == pytest.approx(1.96 * 38.8, abs=0.1)
    assert row["bias_ml"] - row["limit_low_ml"] == pytest.approx(1.96 * 38.8, abs=0.1)
