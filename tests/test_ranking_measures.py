"""Measures of transferability against published values and independent computations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal, norm, weightedtau

from nnunet_transfer.ranking.measures import cc_fv, gbc, interval, leep, logme, mean_ranks, weighted_kendall

#: Wald et al., OpenMind, ICCV 2025, table 2: Dice (%) of ResEnc-L after fine-tuning, seven methods on twelve tasks
TASKS = ["ATL", "SBM", "ISL", "HNT", "HAN", "MSF", "TPC", "YBM", "COS", "ACD", "AMO", "KIT"]
OPENMIND = {
    "VoCo": (57.14, 59.62, 77.5, 63.48, 51.12, 54.9, 75.12, 56.92, 63.49, 91.44, 85.6, 85.71),
    "SwinUNETR": (56.07, 57.25, 77.45, 61.64, 49.42, 54.82, 74.69, 57.05, 65.68, 90.53, 84.95, 85.54),
    "SimCLR": (57.15, 59.72, 78.01, 63.32, 51.56, 55.68, 77.77, 59.14, 68.2, 91.76, 86.06, 84.85),
    "VF": (57.42, 59.88, 78.18, 64.32, 51.67, 57.42, 76.11, 59.31, 63.98, 91.57, 85.38, 86.21),
    "MG": (58.03, 61.57, 77.58, 65.11, 54.69, 55.25, 77.14, 58.67, 71.27, 91.74, 86.35, 86.17),
    "MAE": (58.25, 62.41, 77.89, 66.58, 55.14, 56.84, 77.96, 60.07, 70.85, 91.98, 86.78, 86.12),
    "S3D": (58.76, 64.09, 78.05, 65.74, 52.81, 56.08, 78.81, 59.18, 66.66, 92.01, 86.16, 86.01),
}

seeds = st.integers(0, 2**31)


def test_the_trivial_baseline_has_its_known_value_on_openminds_table() -> None:
    table = np.array(list(OPENMIND.values()))
    six = [TASKS.index(task) for task in ("ISL", "HNT", "MSF", "TPC", "ACD", "KIT")]
    taus = [weighted_kendall(mean_ranks(table, task).tolist(), table[:, task].tolist()) for task in six]
    assert np.mean(taus) == pytest.approx(0.53, abs=0.01)


@given(seed=seeds, size=st.integers(2, 8))
def test_kendalls_tau_is_one_for_the_order_and_minus_one_for_its_reverse(seed: int, size: int) -> None:
    achieved = np.random.default_rng(seed).permutation(size).astype(float)
    assert weighted_kendall((3 * achieved + 1).tolist(), achieved.tolist()) == pytest.approx(1)
    assert weighted_kendall((-achieved).tolist(), achieved.tolist()) == pytest.approx(-1)
    assert weighted_kendall([0.0] * size, achieved.tolist()) == pytest.approx(0)
    predicted = np.random.default_rng(seed + 1).normal(size=size)
    expected = weightedtau(predicted, achieved, rank=(size - 1 - achieved).astype(int)).statistic
    assert weighted_kendall(predicted.tolist(), achieved.tolist()) == pytest.approx(expected)


def test_mean_ranks_leave_unknown_scores_out() -> None:
    scores = np.array([[0.9, 0.1, np.nan], [0.5, 0.2, 0.3], [0.1, np.nan, 0.4]])
    assert mean_ranks(scores, 0).tolist() == [-2.0, -1.5, -1.0]
    assert mean_ranks(scores, -1).tolist() == [-1.5, -5 / 3, -2.0]


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_leep_is_the_naive_sum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs, labels = rng.dirichlet(np.ones(3), 40), rng.integers(0, 4, 40)
    total = 0.0
    for x, y in zip(outputs, labels, strict=True):
        inner = 0.0
        for z in range(3):
            joint = sum(outputs[i, z] for i in range(40) if labels[i] == y) / 40
            inner += x[z] * joint / (sum(outputs[i, z] for i in range(40)) / 40)
        total += np.log(inner)
    assert leep(outputs, labels) == pytest.approx(total / 40)
    # a voxel that stands for two is two voxels
    twice = leep(np.concatenate([outputs, outputs[:7]]), np.concatenate([labels, labels[:7]]))
    assert leep(outputs, labels, np.r_[np.full(7, 2.0), np.ones(33)]) == pytest.approx(twice)


def test_leep_is_zero_for_the_labels_and_minus_their_entropy_for_constants() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [2])
    assert leep(np.eye(3)[labels], labels) == pytest.approx(0)
    shares = np.array([0.6, 0.3, 0.1])
    assert leep(np.full((10, 2), 0.5), labels) == pytest.approx((shares * np.log(shares)).sum())


@given(seed=seeds, shape=st.sampled_from([(30, 4), (12, 20)]))
@settings(max_examples=8, deadline=None)
@example(seed=25268716, shape=(12, 20))  # MacKay's fixed point stops below the maximum here
def test_logme_is_the_maximum_of_the_marginal_likelihood(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=shape)
    labels = (features[:, 0] + 0.7 * rng.normal(size=shape[0]) > 0).astype(np.int64)
    labels[:2] = (0, 1)

    def likelihood(y: np.ndarray, logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -12, 12))
        covariance = np.eye(len(y)) / beta + features @ features.T / alpha
        return float(multivariate_normal.logpdf(y, np.zeros(len(y)), covariance, allow_singular=True)) / len(y)

    best = [
        max(
            -optimize.minimize(lambda p, y=y: -likelihood(y, p), start, method="Nelder-Mead").fun
            for start in ([0.0, 0.0], [2.0, 2.0])
        )
        for y in ((labels == 0).astype(float), (labels == 1).astype(float))
    ]
    assert logme(features, labels) == pytest.approx(np.mean(best), abs=2e-3)


@given(mean=st.floats(-3, 3), scale=st.floats(0.3, 3))
@settings(max_examples=15, deadline=None)
def test_gbc_is_the_integral_of_the_densities_overlap(mean: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 400), rng.normal(mean, scale, 300)
    p, q = norm(a.mean(), a.std()), norm(b.mean(), b.std())
    overlap, _ = integrate.quad(lambda x: np.sqrt(p.pdf(x) * q.pdf(x)), -20, 20, limit=200)
    labels = np.r_[np.zeros(400, np.int64), np.ones(300, np.int64)]
    assert gbc(np.r_[a, b][:, None], labels) == pytest.approx(-2 * overlap, rel=1e-3)


@given(seed=seeds, scale=st.floats(0.1, 10))
@settings(max_examples=15, deadline=None)
def test_cc_fv_by_the_definition_and_whatever_the_units(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    cases = [{c: rng.normal(c, 1 + 0.1 * i, (30, 3)) + i for c in (0, 1, 2)} for i in range(3)]
    distances = []
    for c in (1, 2):
        for a, b in itertools.combinations(cases, 2):
            first, second = np.cov(a[c].T), np.cov(b[c].T)
            cross = np.trace(np.real(sqrtm(first @ second)))
            squared = ((a[c].mean(0) - b[c].mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * cross
            distances.append(np.sqrt(squared))
    means = [np.concatenate(list(case.values())).mean(0) for case in cases]
    energy = np.mean([1 / np.linalg.norm(a - b) for a, b in itertools.combinations(means, 2)])
    assert cc_fv([cases]) == pytest.approx(-np.log(energy * np.mean(distances)), rel=1e-6)
    rescaled = [{c: f * scale for c, f in case.items()} for case in cases]
    assert cc_fv([rescaled, cases]) == pytest.approx(cc_fv([cases]), rel=1e-6)
    assert cc_fv([[{0: cases[0][0]}, {0: cases[1][0]}]]) is None


def test_better_separated_features_score_higher() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 60)
    noise = rng.normal(size=(180, 5))
    near, far = (noise + np.eye(5)[labels] * s for s in (0.5, 4))
    assert gbc(far, labels) > gbc(near, labels)
    assert logme(far, labels) > logme(near, labels)


def test_an_interval_holds_the_mean_and_needs_two_values() -> None:
    low, high = interval([0.1, 0.4, 0.5, 0.9])
    assert low < np.mean([0.1, 0.4, 0.5, 0.9]) < high
    assert np.isnan(interval([0.5])).all()
