"""Configurations of plans that inherit from one another."""

from __future__ import annotations

from typing import Any

import pytest

from nnunet_transfer.configurations import lineage, with_inherited

CHAIN: dict[str, Any] = {
    "low": {"spacing": 2, "batch_size": 4},
    "full": {"inherits_from": "low", "spacing": 1},
    "cascade": {"inherits_from": "full", "previous_stage": "low"},
}


def test_own_settings_replace_inherited_ones() -> None:
    assert lineage(CHAIN, "cascade") == ["cascade", "full", "low"]
    expected = {"spacing": 1, "batch_size": 4, "inherits_from": "full", "previous_stage": "low"}
    assert with_inherited(CHAIN, "cascade") == expected
    assert with_inherited(CHAIN, "low") == CHAIN["low"]


@pytest.mark.parametrize(
    ("odd", "names", "settings"),
    [
        ({}, ["a"], {}),
        ({"a": [1]}, ["a"], {}),
        ({"a": {"x": 1, "inherits_from": "gone"}}, ["a", "gone"], {"x": 1, "inherits_from": "gone"}),
        ({"a": {"x": 1, "inherits_from": ["b"]}, "b": {"y": 2}}, ["a"], {"x": 1, "inherits_from": ["b"]}),
        (
            {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a", "y": 2}},
            ["a", "b"],
            {"inherits_from": "b", "y": 2},
        ),
    ],
)
def test_odd_plans_end_the_line(odd: dict[str, Any], names: list[str], settings: dict[str, Any]) -> None:
    assert lineage(odd, "a") == names
    assert with_inherited(odd, "a") == settings
