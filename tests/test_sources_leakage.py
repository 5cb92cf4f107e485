"""Warnings where a source may have seen the target's subjects."""

from __future__ import annotations

import pytest

from nnunet_transfer.sources.leakage import overlap_warnings


@pytest.mark.parametrize(
    ("trained_on", "target"),
    [
        ("Dataset745_OpenNeuro_v2", "Dataset012_SOOP"),
        ("OpenMind", "Dataset001_ATLAS_R3"),
        ("FOMO-60K", "Dataset745_OpenNeuro_v2"),
        ("Dataset003_OASIS1", "Dataset004_Mindboggle101"),
        ("neurite-oasis", "Dataset009_MICCAI2012"),
        ("Dataset020_Shifts", "Dataset021_MSSEG"),
        ("ISBI-2015", "Dataset020_Shifts"),
        ("ATLAS_R2", "Dataset001_ATLAS"),
        ("MultiTalent2", "Dataset001_ATLAS_R2"),
        ("Dataset007_Own", "Dataset007_Own"),
        ("Dataset008_Own", "Dataset007_Own"),
        ("Dataset002_脑", "Dataset001_脑"),
    ],
)
def test_known_overlaps_are_named(trained_on: str, target: str) -> None:
    (warning,) = overlap_warnings(["ImageNet-1k", trained_on], target)
    assert trained_on in warning
    assert overlap_warnings([target], trained_on), "an overlap has no direction"


@pytest.mark.parametrize(
    ("trained_on", "target"),
    [
        ("ImageNet-1k", "Dataset001_ATLAS"),
        ("OASIS-3", "Dataset003_OASIS1"),
        ("Dataset001_ATLAS", "Dataset002_MSSEG"),
        ("Dataset009_MultiAtlas", "Dataset001_ATLAS"),
        ("AbdomenAtlas 1.1", "Dataset001_ATLAS_R2"),
        ("Dataset002_脑", "Dataset001_心"),
        ("Dataset003_Möller", "Dataset004_Müller"),
        ("COCO", "Dataset005_OasisMALF"),
        ("CamVid", "Dataset105_Stroke"),
    ],
)
def test_unrelated_data_sets_give_no_warning(trained_on: str, target: str) -> None:
    assert overlap_warnings([trained_on], target) == ()
