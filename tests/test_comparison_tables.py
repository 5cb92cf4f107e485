"""Seeds, learning curves, lesions and volumes of a comparison, against plain loops."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_transfer.comparison import (
    CompareSettings,
    Comparison,
    compare,
)
from nnunet_transfer.comparison.case_table import case_rows
from nnunet_transfer.comparison.codes import arm_codes
from nnunet_transfer.comparison.lesions import size_sensitivity
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.naming import TrainerName
from tests.comparison_data import save_mask, write_results
from tests.seeded_comparison import N_CASES, QUALITIES, SCRATCH, T1


def test_seeds_are_averaged_and_fewer_training_cases_stay_out_of_the_main_tables(
    comparison: Comparison, cases: pd.DataFrame
) -> None:
    result = comparison.results[0]
    assert [arm.name for arm in result.arms] == [SCRATCH, T1]
    assert result.baseline == SCRATCH
    for arm in (SCRATCH, T1):
        row = result.summary.set_index("arm").loc[arm]
        assert row["n_seeds"] == 2
        assert row["n_cases"] == N_CASES
        assert row["dice"] == pytest.approx(cases.loc[cases["arm"] == arm, "dice"].mean())
    assert len(cases) == N_CASES * len(QUALITIES)


def test_pooled_miou_counts_voxels_over_all_cases(comparison: Comparison, cases: pd.DataFrame) -> None:
    own = cases[cases["arm"] == T1]
    expected = own["voxels_tp"].sum() / (own["voxels_tp"] + own["voxels_fp"] + own["voxels_fn"]).sum()
    assert comparison.results[0].summary.set_index("arm").loc[T1, "miou_pooled"] == pytest.approx(expected)


def test_several_seeds_give_an_interval_for_arms_trained_again(comparison: Comparison) -> None:
    row = comparison.results[0].tests.query("metric == 'dice'").iloc[0]
    assert row["procedure"] == "two-level bootstrap, 2 seeds"
    assert row["procedure_low"] < row["difference"] < row["procedure_high"]
    # scratch's seeds differ by 0.2 in what they keep: two more trainings could differ as much
    assert row["procedure_high"] - row["procedure_low"] > row["high"] - row["low"]


def test_points_of_learning_curves_are_compared_at_equal_numbers_of_cases(
    comparison: Comparison, cases: pd.DataFrame
) -> None:
    curves = comparison.results[0].curves.set_index("arm")
    wide = cases.groupby(["arm", "case"])["dice"].mean().unstack("arm")
    assert sorted(curves.index) == sorted([SCRATCH, T1, f"{SCRATCH}_3cases", f"{T1}_3cases"])
    assert curves.loc[T1, "training_cases"] == 6  # two of three folds of nine cases
    assert curves.loc[f"{T1}_3cases", "training_cases"] == 3
    assert curves.loc[T1, "family"] == curves.loc[f"{T1}_3cases", "family"]
    assert curves.loc[f"{T1}_3cases", "title"] == "T1 segmentation"
    for suffix in ("", "_3cases"):
        difference = (wide[T1 + suffix] - wide[SCRATCH + suffix]).mean()
        assert curves.loc[T1 + suffix, "dice"] == pytest.approx(wide[T1 + suffix].mean())
        assert curves.loc[T1 + suffix, "difference"] == pytest.approx(difference)
        assert np.isnan(curves.loc[SCRATCH + suffix, "difference"])


def test_pooled_detection_and_strata_agree_with_counting(comparison: Comparison, cases: pd.DataFrame) -> None:
    result = comparison.results[0]
    pooled = result.detection.set_index("arm")
    own = cases[cases["arm"] == T1]
    n_ref, n_pred = own["atlas_r2_n_ref"].sum(), own["atlas_r2_n_pred"].sum()
    row = pooled.loc[T1]
    assert row["n_ref"] == n_ref / 2  # a mean over two seeds
    assert row["sensitivity"] == pytest.approx(1 - own["atlas_r2_fn"].sum() / n_ref)
    assert row["precision"] == pytest.approx(1 - own["atlas_r2_fp"].sum() / n_pred)
    # all found: no bootstrap sample can differ, the bound is the exact one for nine subjects
    assert row["sensitivity_low"] == pytest.approx(stats.binomtest(N_CASES, N_CASES).proportion_ci().low)
    lesions = pd.read_csv(comparison.report.parent / "lesions.csv")
    strata = result.sizes[result.sizes["arm"] == T1]
    assert strata["n_lesions"].sum() == len(lesions[lesions["arm"] == T1]) / 2
    # 9 x 7 x 4 voxels of 3 mm³
    assert list(strata["stratum"]) == ["0.1 to 1"]


def test_lesions_fall_into_the_stratum_of_their_volume() -> None:
    ml = [0.009, 0.01, 0.099, 0.1, 0.99, 1, 9.9, 10, 200]
    lesions = pd.DataFrame({"volume_mm3": np.array(ml) * 1000, "detected": [False, True, False, *[True] * 6]})
    lesions = lesions.assign(arm="a", protocol="p", seed=0, fold=0, case=[f"c{i}" for i in range(9)])
    lesions = lesions.assign(subject=["s0", "s1", "s1", *lesions["case"][3:]])
    arm = Arm("a", "A", TrainerName(SCRATCH))
    table = size_sensitivity(
        lesions, [arm], CompareSettings(draws=100), {"s0": 1, "s1": 2, **{f"c{i}": 1 for i in range(9)}}, {0: 0.25}
    ).set_index("stratum")
    assert list(table.index) == ["< 0.01", "0.01 to 0.1", "0.1 to 1", "1 to 10", "≥ 10"]
    assert list(table["n_lesions"]) == [1, 2, 2, 2, 2]
    assert list(table["n_subjects"]) == [1, 1, 2, 2, 2]
    assert list(table["sensitivity"]) == [0, 0.5, 1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "outermost"),
    [
        ({"lesion": 1, "black hole": 2}, ["lesion", "black hole"]),
        ({"whole": [1, 2], "core": 2}, ["whole"]),
        ({"one": [1, 2], "two": [2, 3]}, []),
    ],
)
def test_volume_and_lesions_of_a_case_are_those_of_all_labels(
    labels: dict[str, int | list[int]], outermost: list[str], nnunet_folders: Path
) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.9, T1: 0.95})
    for folder in ("gt_segmentations", "validation"):
        for path in nnunet_folders.rglob(f"{folder}/*.nii.gz"):
            mask = np.asarray(nib.load(path).dataobj).copy()
            mask[20:22, 16:19, : 2 if folder == "gt_segmentations" else 1] = 2
            save_mask(mask, path)
    for path in nnunet_folders.rglob("dataset.json"):
        write_json(path, read_json(path) | {"labels": {"background": 0, **labels}})
    settings = CompareSettings(protocols=["atlas_r2"], draws=100, tables_only=True)
    made = compare([801], out=nnunet_folders / "out", settings=settings)
    cases = made.table("cases").set_index(["arm", "case"]).sort_index()
    summary = made.table("summary").set_index("arm")
    totals: dict[str, list[float]] = {SCRATCH: [], T1: []}
    for row in case_rows(made.results[0], arm_codes(made.results), nnunet_folders):
        for arm in row.arms:
            own = cases.loc[(arm.arm, row.case)]
            outer = own[own["label"].isin(outermost)]
            volumes = [outer[key].sum() if outermost else np.nan for key in ("volume_ref_ml", "volume_pred_ml")]
            assert [row.volume_ml, arm.volume_ml] == pytest.approx(volumes, nan_ok=True)
            assert row.volume_ml == pytest.approx((9 * 7 * 4 + 12) * 0.003 if outermost else np.nan, nan_ok=True)
            # a lesion of an inner region is one of its outer region, too
            counted = outer if outermost else own
            found = counted["atlas_r2_n_ref"] - counted["atlas_r2_fn"]
            counts = [found.sum(), counted["atlas_r2_n_ref"].sum(), counted["atlas_r2_n_pred"].sum()]
            assert list(next(iter(arm.lesions.values()))) == counts
            assert counts[1] >= (1 if len(outermost) == 1 else 2)
            totals[arm.arm].append(counts[2])
            assert arm.dice == pytest.approx(own["dice"].mean())
    detection, sizes = made.table("detection").set_index("arm"), made.table("sizes")
    for arm, numbers in totals.items():
        assert summary.loc[arm, "atlas_r2_n_pred"] == pytest.approx(np.mean(numbers))
        # each case is a subject: pooled over all, the same lesions are counted
        assert detection.loc[arm, "n_pred"] == pytest.approx(sum(numbers))
        assert sizes.loc[sizes["arm"] == arm, "n_lesions"].sum() == detection.loc[arm, "n_ref"]


def test_volumes_have_bias_and_limits_of_agreement(comparison: Comparison, cases: pd.DataFrame) -> None:
    own = cases[cases["arm"] == T1].groupby("case")[["volume_pred_ml", "volume_ref_ml"]].mean()
    difference = own["volume_pred_ml"] - own["volume_ref_ml"]
    row = comparison.results[0].volumes.set_index("arm").loc[T1]
    assert row["bias_ml"] == pytest.approx(difference.mean())
    assert row["limit_high_ml"] - row["bias_ml"] == pytest.approx(1.96 * difference.std(ddof=1))
    assert row["bias_low_ml"] < row["bias_ml"] < row["bias_high_ml"] < 0
