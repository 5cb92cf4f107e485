"""A name in a file is text until it was found in our own table."""

from __future__ import annotations

import pydoc
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
from nnunetv2.preprocessing.normalization import default_normalization_schemes
from nnunetv2.preprocessing.resampling.utils import recursive_find_resampling_fn_by_name
from torch import nn

from nnunet_transfer.plans import PROFILES
from nnunet_transfer.plans.classes import (
    CONFIGURATION_NAMES,
    LAYERS,
    MASKED_SCHEMES,
    NETWORKS,
    NORMALIZATION_SCHEMES,
    PLANS_NAMES,
    foreign_names,
    wrong_class,
)

ANY = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def architecture(**changes: Any) -> dict[str, Any]:
    own = PROFILES["demo"].architecture(3)
    return {**own, "arch_kwargs": {**own["arch_kwargs"], **changes}}


@pytest.mark.parametrize("name", sorted(NETWORKS | LAYERS))
def test_every_name_of_the_table_is_a_class_of_layers(name: str) -> None:
    found = pydoc.locate(name)
    assert isinstance(found, type)
    assert issubclass(found, nn.Module)


def test_nnunet_has_every_name_of_the_tables() -> None:
    for name in CONFIGURATION_NAMES["resampling_fn_data"]:
        assert callable(recursive_find_resampling_fn_by_name(name))
    for name in PLANS_NAMES["image_reader_writer"]:
        assert recursive_find_reader_writer_by_name(name) is not None
    for name in NORMALIZATION_SCHEMES:
        scheme = getattr(default_normalization_schemes, name)
        assert scheme.leaves_pixels_outside_mask_at_zero_if_use_mask_for_norm_is_true is (name in MASKED_SCHEMES)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_profiles_hold_names_of_the_table_only(profile: str, dimensions: int) -> None:
    assert wrong_class(PROFILES[profile].architecture(dimensions)) == ""


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "__main__.X",
        "torch.nn",
        "torch.nn.LeakyReLU.forward",
        "torch.nn.functional.relu",
        "trap.X",
        "",
        3,
        [],
    ],
)
def test_nothing_is_imported_for_a_name(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    assert wrong_class(architecture(nonlin=name)) == str(name)
    assert wrong_class({**architecture(), "network_class_name": name}) == str(name)
    assert set(sys.modules) == before


@given(st.dictionaries(st.sampled_from(["image_reader_writer", "label_manager", "configurations", "x"]), ANY))
def test_plans_of_any_shape_are_judged(plans: dict[str, Any]) -> None:
    for setting, _ in foreign_names({**plans, "configurations": {"2d": {"preprocessor_name": plans.get("x")}}}):
        assert setting in {**PLANS_NAMES, **CONFIGURATION_NAMES}
    list(foreign_names(plans))


@pytest.mark.parametrize("setting", [*PLANS_NAMES, *CONFIGURATION_NAMES])
def test_what_nnunet_would_look_up_is_compared_with_its_own_names(setting: str) -> None:
    known = {**PLANS_NAMES, **CONFIGURATION_NAMES}[setting]

    def plans(name: str) -> dict[str, Any]:
        value: Any = [name] if setting == "normalization_schemes" else name
        return {setting: value} if setting in PLANS_NAMES else {"configurations": {"2d": {setting: value}}}

    assert all(list(foreign_names(plans(name))) == [] for name in known)
    assert list(foreign_names(plans("np"))) == [(setting, "np")]
