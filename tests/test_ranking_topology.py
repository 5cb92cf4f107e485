"""TopoTE's parts against independent trees, by hand, and at their limits."""

from __future__ import annotations

import math

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from nnunet_transfer.ranking.topology import borders, fused, grtd, lbtc, over_stages, spanning_tree

seeds = st.integers(0, 2**31)


@given(seed=seeds, count=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_the_tree_is_networkx_s(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    distances = cdist(points, points)
    edges = spanning_tree(distances)
    assert edges.shape == (count - 1, 2)
    expected = networkx.minimum_spanning_tree(networkx.from_numpy_array(distances)).size(weight="weight")
    assert distances[edges[:, 0], edges[:, 1]].sum() == pytest.approx(expected)


def test_grtd_by_hand() -> None:
    """On a line at 0, 1 (class 0) and 3, 4 (class 1) the tree has the edges 1, 2 and 1; the median distance is 2.5."""
    points, labels = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1])
    # of each class's two edges, 1 + 2, the labels explain the 2
    assert grtd(points, labels) == pytest.approx(-1 / 3)
    # classes far apart: 99 is explained up to the median, 99.5
    assert grtd(np.array([[0.0], [1.0], [100.0], [101.0]]), labels) == pytest.approx(-1 / 100)
    # mixed: all edges join two classes, each of 1, up to the median of 1.5
    assert grtd(np.array([[0.0], [2.0], [1.0], [3.0]]), labels) == pytest.approx(0.0)
    assert grtd(points, np.zeros(4, int)) is None


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_grtd_does_not_depend_on_units_or_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    value = grtd(points, labels)
    order = rng.permutation(30)
    assert value is not None
    assert grtd(7 * points[order] - 3, labels[order]) == pytest.approx(value)
    assert -1 <= value <= 0


def test_lbtc_is_one_where_classes_are_apart_and_falls_where_they_mix() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    apart = np.concatenate([rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) + 1.5])
    mixed = rng.normal(size=(80, 3))
    anchors = np.arange(40, 60)
    separate, confused = lbtc(apart, labels, anchors), lbtc(mixed, labels, anchors)
    assert separate is not None
    assert confused is not None
    assert 0 <= confused < separate < 1
    # nobody of another class is among the sixteen nearest
    assert lbtc(np.concatenate([mixed[:40], mixed[40:] + 1000]), labels, anchors) is None


def test_lbtc_by_hand() -> None:
    """Four voxels on a line: the tree's three edges are 0-0, 0-1 and 1-1."""
    value = lbtc(np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1]), np.array([2]))
    assert value == pytest.approx(2 / 3)


def test_borders_are_the_foreground_s() -> None:
    labels = np.zeros((6, 6), int)
    labels[1:6, 1:6] = 1
    labels[3, 3] = 2
    found = borders(labels)
    # at the image's edge nothing is known of what lies beyond
    assert found[1, 1:].all()
    assert not found[5, 3]
    assert found[3, 3]
    assert found[2, 3]
    assert not found[2, 2]
    assert not found[labels == 0].any()


def test_stages_weights_are_the_authors() -> None:
    """utils/fusion_weights.py, profile `paper`, for nnU-Net's six stages."""
    for encoder, weights in (
        (False, (0.022, 0.229, 0.499, 0.229, 0.022)),
        (True, (0.002, 0.038, 0.240, 0.444, 0.240, 0.038)),
    ):
        for stage, weight in enumerate(weights):
            values = [float(i == stage) for i in range(len(weights))]
            assert over_stages(values, encoder=encoder) == pytest.approx(weight, abs=0.001)
    assert math.isnan(over_stages([None, None], encoder=True))
    assert over_stages([None, 0.3, None], encoder=False) == pytest.approx(0.3)


def test_one_class_counts_locally_and_many_globally() -> None:
    overall, local = [-0.9, -0.5, -0.1], [0.8, 0.9, 0.6]
    one, many = fused(overall, local, 1), fused(overall, local, 1000)
    assert one == pytest.approx([2 / 3, 1, 0])
    assert np.argsort(many).tolist() == [0, 1, 2]
    # tanh(log(3) / 2) = 1/2
    assert fused(overall, local, 3) == pytest.approx([1 / 3, 3 / 4, 1 / 2])
    assert fused([math.nan, -0.5], [0.1, 0.2], 1) == pytest.approx([0, 1])
    assert fused([-0.5], [0.2], 1) == [0.0]
