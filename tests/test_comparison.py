"""The comparison over nnU-Net's result folders: right numbers, one report, and no case dropped in silence."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_transfer.cli import main
from nnunet_transfer.comparison import CompareSettings, ReportText, compare
from nnunet_transfer.comparison.results import find_runs
from nnunet_transfer.comparison.statistics import holm, nadeau_bengio, rank_biserial, wilcoxon_p
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.files import read_json, write_json
from tests.comparison_data import (
    CASES,
    DATASET,
    QUALITY,
    SHAPE,
    model_folder,
    save_mask,
    validation_folder,
    write_results,
)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


@pytest.fixture
def results(nnunet_folders: Path) -> Path:
    """Three arms on eight cases in two folds."""
    write_results(nnunet_folders, QUALITY)
    write_json(
        model_folder(nnunet_folders, "nnUNetTrainerT1Segmentation") / "fold_0" / "transfer_report.json",
        {"coverage": {"encoder": 1.0, "decoder": 0.87}, "warnings": ["source t1 did not learn its task"]},
    )
    return nnunet_folders


def _read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj) > 0


def test_numbers_agree_with_a_plain_loop(results: Path, tmp_path: Path) -> None:
    comparison = compare(
        [801], out=tmp_path / "out", settings=CompareSettings(protocols=["atlas_r2"], draws=500, tables_only=True)
    )
    result = comparison.results[0]
    expected: dict[str, list[float]] = {arm: [] for arm in QUALITY}
    for fold, cases in enumerate((CASES[1::2], CASES[0::2])):
        for case in cases:
            reference = _read(results / "preprocessed" / DATASET / "gt_segmentations" / f"{case}.nii.gz")
            for arm in QUALITY:
                expected[arm].append(_dice(reference, _read(validation_folder(results, arm, fold) / f"{case}.nii.gz")))
    summary = result.summary.set_index("arm")
    tests = result.tests[result.tests["metric"] == "dice"].set_index("arm")
    scratch = np.array(expected["nnUNetTrainerScratch"])
    for arm, values in expected.items():
        assert summary.loc[arm, "dice"] == pytest.approx(np.mean(values))
        assert summary.loc[arm, "n_cases"] == len(CASES)
        if arm != "nnUNetTrainerScratch":
            differences = np.array(values) - scratch
            row = tests.loc[arm]
            assert row["difference"] == pytest.approx(differences.mean())
            assert row["low"] < row["difference"] < row["high"]
            assert row["p"] == pytest.approx(stats.wilcoxon(differences, zero_method="pratt").pvalue)
    cases = pd.read_csv(tmp_path / "out" / "cases.csv")
    wanted = {"target", "arm", "recipe", "seed", "fold", "case", "subject", "site", "label", "dice", "iou", "hd95_mm"}
    wanted |= {"nsd", "volume_ref_ml", "volume_pred_ml", "atlas_r2_f1", "atlas_r2_n_ref", "atlas_r2_sensitivity"}
    assert wanted <= set(cases.columns)
    assert len(cases) == len(CASES) * len(QUALITY)


def test_the_report_is_one_file_that_names_every_arm(results: Path, tmp_path: Path) -> None:
    report = compare(
        [801], out=tmp_path / "out", settings=CompareSettings(draws=200), text=ReportText("Made up <data>.")
    ).report
    page = report.read_text(encoding="utf-8")
    for text in (
        "Scratch",
        "T1 segmentation",
        "Natural classification",
        "Made up &lt;data&gt;.",
        "decoder 87 %",
        "n = 8",
    ):
        assert text in page
    assert "source t1 did not learn its task" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page
    assert list(pd.read_csv(report.parent / "lesions.csv")["lesion"]) == []
    assert page.count("data:image/png;base64,") >= 6
    assert {"cases.csv", "lesions.csv", "summary.csv", "tests.csv", "summary.txt"} <= {
        p.name for p in report.parent.iterdir()
    }
    assert list((report.parent / "figures").glob("*.svg"))


def test_swapping_the_baseline_flips_the_sign(results: Path, tmp_path: Path) -> None:
    arms = ["nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"]
    rows = []
    for baseline in arms:
        tests = (
            compare(
                [801],
                out=tmp_path / baseline,
                arms=arms,
                settings=CompareSettings(baseline=baseline, draws=500, tables_only=True),
            )
            .results[0]
            .tests
        )
        rows.append(tests[tests["metric"] == "dice"].iloc[0])
    assert rows[0]["difference"] == pytest.approx(-rows[1]["difference"])
    assert rows[0]["rank_biserial"] == pytest.approx(-rows[1]["rank_biserial"])
    assert rows[0]["p"] == pytest.approx(rows[1]["p"])
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((-rows[1]["high"], -rows[1]["low"]), abs=0.02)


def test_a_second_comparison_scores_nothing_anew(results: Path, tmp_path: Path, caplog) -> None:
    settings = CompareSettings(draws=100, tables_only=True)
    with caplog.at_level("INFO"):
        compare([801], out=tmp_path / "out", settings=settings)
        assert "scoring 24 predictions" in caplog.text
        caplog.clear()
        compare([801], out=tmp_path / "out", settings=settings)
        assert "scoring" not in caplog.text
        mask = validation_folder(results, "nnUNetTrainerScratch", 1) / f"{CASES[0]}.nii.gz"
        save_mask(np.ones(SHAPE), mask)
        compare([801], out=tmp_path / "out", settings=settings)
        assert "scoring 1 prediction (23 known already)" in caplog.text


def test_an_arm_that_predicts_nothing_is_not_called_better_where_many_cases_have_no_lesion(
    nnunet_folders: Path, tmp_path: Path
) -> None:
    cases = [f"sub-{i:02d}" for i in range(24)]
    scratch, empty = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"
    write_results(nnunet_folders, {scratch: 0.9, empty: 0.9}, cases)
    nothing, speck = np.zeros((2, *SHAPE))
    speck[0, 0, 0] = 1
    for i, case in enumerate(cases):
        save_mask(nothing, validation_folder(nnunet_folders, empty, (i + 1) % 2) / f"{case}.nii.gz")
        if i % 4:
            save_mask(nothing, nnunet_folders / "preprocessed" / DATASET / "gt_segmentations" / f"{case}.nii.gz")
            save_mask(speck, validation_folder(nnunet_folders, scratch, (i + 1) % 2) / f"{case}.nii.gz")
    made = compare([801], out=tmp_path / "out", settings=CompareSettings(draws=200, tables_only=True))
    said = " ".join(made.report.read_text(encoding="utf-8").split())
    assert (
        "T1 segmentation had the highest mean Dice, 0.750 (24 subjects), although T1 segmentation has no correct"
        in said
    )
    assert "No correct voxel in any case: T1 segmentation." in said
    assert not re.search("Better|scored higher", said)
    assert list(made.table("tests").query("metric == 'dice'")["verdict"]) == ["failed"]


def _remove_prediction(folders: Path) -> None:
    (validation_folder(folders, "nnUNetTrainerT1Segmentation", 1) / "sub-00.nii.gz").unlink()


def _remove_fold(folders: Path) -> None:
    shutil.rmtree(model_folder(folders, "nnUNetTrainerT1Segmentation") / "fold_1")


def _add_prediction(folders: Path) -> None:
    folder = validation_folder(folders, "nnUNetTrainerScratch", 0)
    shutil.copy(folder / "sub-01.nii.gz", folder / "sub-00.nii.gz")


def _stop_before_validation(folders: Path) -> None:
    folder = validation_folder(folders, "nnUNetTrainerT1Segmentation", 1)
    shutil.rmtree(folder)
    folder.mkdir()


def _write_fractions(folders: Path) -> None:
    path = validation_folder(folders, "nnUNetTrainerScratch", 1) / "sub-00.nii.gz"
    nib.save(nib.Nifti1Image(np.full(SHAPE, 0.3, np.float32), nib.load(path).affine), path)


def _shift(folders: Path) -> None:
    path = validation_folder(folders, "nnUNetTrainerScratch", 1) / "sub-00.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([1.0, -1.0, 3.0, 1.0])), path)


def _unknown_label(folders: Path) -> None:
    path = validation_folder(folders, "nnUNetTrainerScratch", 1) / "sub-00.nii.gz"
    nib.save(nib.Nifti1Image(np.full(SHAPE, 7, np.uint8), nib.load(path).affine), path)


def _truncate(folders: Path) -> None:
    path = validation_folder(folders, "nnUNetTrainerScratch", 1) / "sub-00.nii.gz"
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove_prediction, "sub-00"),
        (_remove_fold, "fold 1 was not trained"),
        (_add_prediction, "sub-00"),
        (_stop_before_validation, "fold 1: not validated"),
        (_write_fractions, "fractions"),
        (_shift, "direction"),
        (_unknown_label, "label 7"),
        (_truncate, "can't be read"),
    ],
)
def test_what_spoils_the_pairing_is_named_and_only_left_out_on_request(
    spoil, message: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(results)
    command = ["compare", "-d", "801", "-o", str(tmp_path / "out"), "--processes", "1"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "report.html").exists()
    assert main([*command, "--allow-missing"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Left out of the comparison" in page
    assert page.index("Left out") < page.index("sub-") < page.index('class="verdict"')


def test_the_region_of_equivalence_has_to_be_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-d", "801", "-o", str(tmp_path / "out"), "--rope", "-1"]) == 2
    assert "rope is -1" in capsys.readouterr().err


def test_a_trainer_of_ones_own_with_a_name_like_ours_can_be_left_out(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {**QUALITY, "nnUNetTrainerScratch_topK": 0.5})
    with pytest.raises(ComparisonError, match=r"unknown suffix _topK.*leave it out with --arms"):
        find_runs(DATASET)
    assert sorted(run.trainer for run in find_runs(DATASET, arms=list(QUALITY))) == sorted(QUALITY)


def test_arms_are_ordered_by_recipe_and_length(nnunet_folders: Path) -> None:
    ordered = [f"nnUNetTrainerScratch{suffix}" for suffix in ("_8epochs", "_12epochs", "_100epochs", "_lpft_8epochs")]
    ordered += [f"nnUNetTrainerT1Segmentation_{suffix}" for suffix in ("3cases_25epochs", "12cases_8epochs")]
    write_results(nnunet_folders, dict.fromkeys(reversed(ordered), 0.5))
    assert [run.arm.name for run in find_runs(DATASET)] == ordered


def test_a_copy_of_a_fold_is_not_taken_for_the_fold(results: Path, tmp_path: Path) -> None:
    model = model_folder(results, "nnUNetTrainerScratch")
    before = find_runs(DATASET)
    for name in ("fold_00", "fold_0 copy", "fold_\u0661"):
        shutil.copytree(model / "fold_0", model / name)
    assert [run.folds for run in find_runs(DATASET)] == [run.folds for run in before]


def test_targets_with_one_name_are_kept_apart_and_one_given_twice_counts_once(results: Path, tmp_path: Path) -> None:
    names = [DATASET, "Dataset802_Blobs"]
    for folder in ("raw", "preprocessed", "results"):
        shutil.copytree(results / folder / names[0], results / folder / names[1])
    made = compare([801, 802, DATASET], out=tmp_path / "out", settings=CompareSettings(draws=100, tables_only=True))
    assert [result.target.dataset for result in made.results] == names
    for table in ("cases", "summary"):
        assert dict(made.table(table)["target"].value_counts()) == dict.fromkeys(names, len(made.table(table)) / 2)
    consensus = pd.read_csv(tmp_path / "out" / "consensus.csv")
    assert set(names) <= set(consensus.columns)
    said = made.report.read_text(encoding="utf-8")
    assert all(f"{name}: {len(CASES)} cases" in said for name in names)
    # one alone has its short name
    assert (
        compare([801, "801"], out=tmp_path / "out", settings=CompareSettings(draws=100, tables_only=True))
        .results[0]
        .target.title
        == "Blobs"
    )


@pytest.mark.parametrize("trainers", [["nnUNetTrainerScratch"], list(QUALITY)])
def test_fold_all_is_refused(trainers: list[str], results: Path, tmp_path: Path) -> None:
    for model in (model_folder(results, trainer) for trainer in trainers):
        shutil.rmtree(model / "fold_1")
        (model / "fold_0").rename(model / "fold_all")
    with pytest.raises(ComparisonError, match="nnUNetTrainerScratch has no numbered fold; fold_all"):
        compare([801], out=tmp_path / "out")


def test_a_missing_baseline_is_named(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(model_folder(results, "nnUNetTrainerScratch"))
    with pytest.raises(ComparisonError, match=r"nnUNetTrainerScratch was not trained.*--baseline"):
        compare([801], out=tmp_path / "out")


def test_a_baseline_that_is_not_among_the_arms_is_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ComparisonError, match="nnUNetTrainerScratch was not trained or is not among the arms asked for"
    ):
        compare([801], out=tmp_path / "out", arms=["nnUNetTrainerT1Segmentation", "nnUNetTrainerNaturalClassification"])


@pytest.mark.parametrize("folds", [None, [1, 2], [{"train": []}, {"train": []}], [{"train": [], "val": None}] * 2])
def test_folds_of_any_content_are_one_line(
    folds: object, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(results / "preprocessed" / DATASET / "splits_final.json", folds)
    assert main(["compare", "-d", "801", "-o", str(tmp_path / "out")]) == 2
    assert "splits_final.json is not a list of folds" in capsys.readouterr().err


def test_raw_folders_without_images_are_no_trouble_and_damaged_labels_are_named(results: Path, tmp_path: Path) -> None:
    for path in (results / "raw" / DATASET / "imagesTr").iterdir():
        path.unlink()
    shutil.copytree(results / "preprocessed" / DATASET / "gt_segmentations", results / "raw" / DATASET / "labelsTr")
    label = results / "raw" / DATASET / "labelsTr" / "sub-00.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(label).dataobj), np.diag([2.0, 2.0, 2.0, 1.0])), label)
    (label.parent / "sub-01.nii.gz").write_bytes(b"x")
    with pytest.raises(
        ComparisonError, match=r"sub-00: its reference in nnUNet_raw.*; sub-01: .*sub-01.nii.gz can't be read"
    ):
        compare([801], out=tmp_path / "out")
    settings = CompareSettings(draws=100, tables_only=True, allow_missing=True)
    assert compare([801], out=tmp_path / "out", settings=settings).results[0].n_cases == len(CASES) - 2


def test_holm_agrees_with_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 20):
        p = rng.random(n) ** 3
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_nan = np.array([0.01, np.nan, 0.04])
    assert holm(with_nan)[[0, 2]] == pytest.approx(multipletests([0.01, 0.04], method="holm")[1])
    assert np.isnan(holm(with_nan)[1])


def test_too_few_pairs_give_no_p_value() -> None:
    assert np.isnan(wilcoxon_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5])))
    assert np.isnan(wilcoxon_p(np.zeros(10)))


def test_effect_size_has_the_right_ends() -> None:
    assert rank_biserial(np.array([0.1, 0.2, 0.3])) == 1.0
    assert rank_biserial(np.array([-0.1, 0.1])) == 0.0


def test_nadeau_bengio_widens_the_naive_error_by_half_for_five_folds() -> None:
    d = np.array([0.01, 0.03, 0.02, 0.05, 0.00])
    corrected = nadeau_bengio(d, test_train_ratio=0.25)
    naive = stats.ttest_1samp(d, 0)
    assert corrected.t == pytest.approx(naive.statistic / 1.5)


def test_a_fold_that_trains_on_its_validation_cases_is_refused_by_name(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, QUALITY)
    path = nnunet_folders / "preprocessed" / DATASET / "splits_final.json"
    splits = read_json(path)
    leaked = splits[1]["val"][0]
    splits[1]["train"].append(leaked)
    write_json(path, splits)
    with pytest.raises(ComparisonError, match=rf"fold 1 of .* trains on 1 of the cases that validate it \({leaked}\)"):
        compare([DATASET], out=nnunet_folders / "out", settings=CompareSettings(tables_only=True, draws=100))
