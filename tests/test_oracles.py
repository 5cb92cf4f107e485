"""Scores of awkward masks against other tools, whose findings `recorded/record_oracles.py` wrote down.

Thin, flat, one-voxel, touching, sparse, empty and border-touching lesions, 2D images and unequal voxels are among them.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnunet_transfer.evaluation.empties import apply_empty_rule
from nnunet_transfer.evaluation.labels import label_set_of
from nnunet_transfer.evaluation.masks import Volume
from nnunet_transfer.evaluation.protocols import PRESETS
from nnunet_transfer.evaluation.scores import Row, ScoringSettings, score_case
from nnunet_transfer.files import read_json
from tests.recorded.awkward_masks import OTHER_PATHOLOGY, awkward_pair

RECORD: dict[str, Any] = read_json(Path(__file__).parent / "recorded" / "oracles.json")
PROTOCOLS = tuple(PRESETS[name] for name in ("atlas_r2", "isles22", "shifts_ms", "wmh2017"))
#: MONAI computes in single precision
SINGLE = 1e-5


def test_hundreds_of_pairs_of_every_kind_were_recorded() -> None:
    assert RECORD["pairs"] >= 200
    assert all(len(rows) == RECORD["pairs"] for rows in RECORD["scores"].values())
    assert set(RECORD["scores"]) == {
        "monai",
        "surface_distance",
        "wmh2017",
        "atlas_r2",
        "isles22",
        "shifts_ms",
        "brats2023",
    }


@cache
def ours(seed: int) -> Row:
    """Score a pair without its other pathology, empty references by the default rule."""
    reference, prediction, spacing = awkward_pair(seed)
    volumes = [Volume((mask == 1).astype(np.uint8), spacing, None) for mask in (reference, prediction)]
    settings = ScoringSettings(PROTOCOLS, tolerance_mm=RECORD["tolerance_mm"])
    row = score_case(*volumes, label_set_of((1,)), settings).cases[0]
    filled = apply_empty_rule(pd.DataFrame([row]), PROTOCOLS, "score").iloc[0]
    return {**filled, "diagonal_mm": math.hypot(*((np.array(reference.shape) - 1) * spacing)), "spacing": spacing}


def recorded(tool: str) -> list[tuple[Row, list[float]]]:
    """Return our row and their numbers for every pair; what a tool leaves undefined is NaN."""
    rows = [[math.nan if v is None else float(v) for v in row] for row in RECORD["scores"][tool]]
    return [(ours(seed), row) for seed, row in enumerate(rows)]


def test_overlap_and_surface_scores_agree_with_monai() -> None:
    for row, (dice, iou, hd95, nsd) in recorded("monai"):
        assert (row["dice"], row["iou"]) == pytest.approx((dice, iou), abs=SINGLE)
        if row["volume_ref_ml"] and row["volume_pred_ml"]:
            assert (row["hd95_mm"], row["nsd"]) == pytest.approx((hd95, nsd), rel=SINGLE, abs=SINGLE)
        elif row["volume_ref_ml"] or row["volume_pred_ml"]:
            # an infinite distance there, the image's diagonal here, which can be averaged
            assert not math.isfinite(hd95)
            assert (row["hd95_mm"], row["nsd"], nsd) == (pytest.approx(row["diagonal_mm"]), 0, 0)
        else:
            # undefined there, right here, by the rule for empty references
            assert not math.isfinite(hd95) or hd95 == 0
            assert math.isnan(nsd)
            assert (row["hd95_mm"], row["nsd"]) == (0, 1)


def test_surface_scores_keep_within_a_voxel_of_surface_distance() -> None:
    """Its surface elements lie on the voxels' corners and count by area, ours are voxels.

    Every corner is half a voxel's diagonal from a surface voxel and the other way round, so that all distances of one
    are within a diagonal of distances of the other.
    """
    differences = []
    for row, (hd80, hd95, hd100, nsd) in recorded("surface_distance"):
        if math.isnan(hd95):
            assert not row["volume_ref_ml"] or not row["volume_pred_ml"]
            continue
        diagonal = math.hypot(*row["spacing"])
        assert hd80 - diagonal <= row["hd95_mm"] <= hd100 + diagonal
        if hd100 + diagonal <= RECORD["tolerance_mm"]:
            assert row["nsd"] == 1
        if row["dice"] == 1:
            assert (row["hd95_mm"], row["nsd"], hd95, nsd) == (0, 1, 0, 1)
        differences.append((row["hd95_mm"] - hd95, row["nsd"] - nsd))
    hd95, nsd = np.abs(differences).T
    assert np.median(hd95) < 0.3
    assert np.median(nsd) < 0.1
    assert len(differences) > 150


def test_wmh_agrees_with_the_challenge() -> None:
    protocol = PRESETS["wmh2017"]
    with_other = 0
    for seed, (_, (dice, change, recall, f1)) in enumerate(recorded("wmh2017")):
        reference, prediction, spacing = awkward_pair(seed)
        with_other += bool((reference == OTHER_PATHOLOGY).any())
        volumes = [Volume(mask, spacing, None) for mask in (reference, prediction)]
        labels = label_set_of((1,), frozenset({OTHER_PATHOLOGY}))
        row = score_case(*volumes, labels, ScoringSettings((protocol,), surface=False)).cases[0]
        assert (row["wmh2017_sensitivity"], row["wmh2017_f1"]) == pytest.approx((recall, f1), abs=1e-6)
        assert row["dice"] == pytest.approx(dice, abs=1e-6, nan_ok=True)
        if row["volume_ref_ml"]:
            found = abs(row["volume_pred_ml"] - row["volume_ref_ml"]) / row["volume_ref_ml"] * 100
            assert found == pytest.approx(change, rel=1e-6, abs=1e-6)
    assert with_other > 50


@pytest.mark.parametrize("name", ["atlas_r2", "isles22", "shifts_ms"])
def test_lesion_scores_agree_with_the_challenges(name: str) -> None:
    for row, (f1, *others) in recorded(name):
        assert row[f"{name}_f1"] == pytest.approx(f1, abs=1e-6)
        if others:
            assert abs(row[f"{name}_n_ref"] - row[f"{name}_n_pred"]) == others[0]
        if len(others) > 1:
            assert row["dice"] == pytest.approx(others[1], abs=1e-6)


def test_counts_agree_with_brats() -> None:
    protocol = PRESETS["brats2023"]
    for seed, (_, counts) in enumerate(recorded("brats2023")):
        reference, prediction, _ = awkward_pair(seed)
        # its evaluation takes every voxel for 1 mm³
        volumes = [Volume((mask == 1).astype(np.uint8), (1.0, 1.0, 1.0), None) for mask in (reference, prediction)]
        row = score_case(*volumes, label_set_of((1,)), ScoringSettings((protocol,), surface=False)).cases[0]
        assert [row[f"brats2023_{name}"] for name in ("tp", "fp", "fn")] == counts
