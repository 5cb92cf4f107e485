"""Seeds, learning curves, ranks, lesions and volumes of a comparison, against plain loops; the report's tables."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import seaborn
from scipy import stats

from nnunet_transfer.comparison import Comparison, compare
from nnunet_transfer.comparison.lesions import size_sensitivity
from nnunet_transfer.comparison.markup import Column, html_table, latex, latex_table
from nnunet_transfer.comparison.paired import Settings
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.statistics import holm
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.naming import TrainerName
from tests.comparison_data import QUALITY, write_results

SCRATCH, T1 = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"
#: two seeds on all cases, and one point more of a learning curve
QUALITIES = {
    f"{SCRATCH}_seed0": 0.4,
    f"{SCRATCH}_seed1": 0.6,
    f"{T1}_seed0": 0.8,
    f"{T1}_seed1": 0.9,
    f"{SCRATCH}_3cases": 0.3,
    f"{T1}_3cases": 0.7,
}
N_CASES = 9


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two arms with two seeds and three folds, and both of them trained on three cases."""
    folders = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(folders / name))
        write_results(folders, QUALITIES, [f"sub-{i:02d}" for i in range(N_CASES)], n_folds=3)
        return compare([801], out=folders / "out", protocols=["atlas_r2"], draws=400)


@pytest.fixture
def cases(comparison: Comparison) -> pd.DataFrame:
    return pd.read_csv(comparison.report.parent / "cases.csv")


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


def test_several_seeds_give_an_interval_for_arms_trained_anew(comparison: Comparison) -> None:
    row = comparison.results[0].tests.query("metric == 'dice'").iloc[0]
    assert row["procedure"] == "two-level bootstrap, 2 seeds"
    assert row["procedure_low"] < row["difference"] < row["procedure_high"]
    # scratch's seeds differ by 0.2 in what they keep: two trainings more could differ as much
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
    table = size_sensitivity(lesions, [arm], Settings(draws=100)).set_index("stratum")
    assert list(table.index) == ["< 0.01", "0.01 to 0.1", "0.1 to 1", "1 to 10", "≥ 10"]
    assert list(table["n_lesions"]) == [1, 2, 2, 2, 2]
    assert list(table["n_subjects"]) == [1, 1, 2, 2, 2]
    assert list(table["sensitivity"]) == [0, 0.5, 1, 1, 1]


def test_volumes_have_bias_and_limits_of_agreement(comparison: Comparison, cases: pd.DataFrame) -> None:
    own = cases[cases["arm"] == T1].groupby("case")[["volume_pred_ml", "volume_ref_ml"]].mean()
    difference = own["volume_pred_ml"] - own["volume_ref_ml"]
    row = comparison.results[0].volumes.set_index("arm").loc[T1]
    assert row["bias_ml"] == pytest.approx(difference.mean())
    assert row["limit_high_ml"] - row["bias_ml"] == pytest.approx(1.96 * difference.std(ddof=1))
    assert row["bias_low_ml"] < row["bias_ml"] < row["bias_high_ml"] < 0


def test_the_report_shows_every_part_and_every_table_is_there_as_latex(comparison: Comparison) -> None:
    folder = comparison.report.parent
    page = comparison.report.read_text(encoding="utf-8")
    for text in (
        "Learning curves",
        "Lesion detection",
        "limits of agreement",
        "trained anew",
        "comes first",
        "Methods",
    ):
        assert text in page
    tables = {path.stem.split("_", 2)[2]: path.read_text(encoding="utf-8") for path in (folder / "tables").iterdir()}
    tests = {f"tests_{metric}" for metric in ("dice", "iou", "atlas_r2_f1")}
    assert set(tables) == {"summary", "procedure", "ranks", "detection", "volumes", "curves", *tests}
    assert "Holm" in tables["tests_dice"]
    assert "Holm" not in tables["tests_iou"]
    for text in tables.values():
        rows = re.findall(r"^(?!\\).*\\\\$", text, re.M)
        assert len({row.count(" & ") for row in rows}) == 1
        assert text.count(r"\begin{") == text.count(r"\end{") == 2
    drawn = {path.name.split("_", 2)[2] for path in (folder / "figures").glob("*.svg") if path.name.startswith("Data")}
    assert {"curves.svg", "ranks.svg", "volumes_1.svg", "sizes_atlas_r2.svg", "dots.svg", "worst.svg"} <= drawn


def test_what_was_drawn_before_in_the_process_leaves_the_figures_alone(three_arms: Path, tmp_path: Path) -> None:
    compare([801], out=tmp_path / "first", draws=200)
    with matplotlib.rc_context():
        seaborn.set_theme(font_scale=2.5)  # as nnU-Net's logger does after each epoch
        compare([801], out=tmp_path / "second", draws=200)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "figures").glob("*.png")}
        for name in ("first", "second")
    )
    assert len(first) > 5
    assert first == second


def test_methods_cite_what_they_list(comparison: Comparison) -> None:
    page = comparison.report.read_text(encoding="utf-8")
    methods = page[page.index("<h2>Methods") :]
    numbers = [int(n) for n in re.findall(r"\[(\d+)\]", methods)]
    assert sorted(set(numbers)) == list(range(1, methods[methods.index("<ol") :].count("<li>") + 1))
    assert list(dict.fromkeys(numbers)) == sorted(set(numbers))
    assert "numpy " in methods
    listed = re.findall(r"<li>(.*?)</li>", methods[methods.index("<ol") :])
    for words, author in (("two-level bootstrap over training runs and subjects", "Rao"), ("Holm&#x27;s rule", "Holm")):
        number = re.search(rf"{words} \[(\d+)\]", methods)
        assert number is not None
        assert listed[int(number[1]) - 1].startswith(author)


@pytest.fixture
def three_arms(nnunet_folders: Path) -> Path:
    write_results(nnunet_folders, QUALITY)
    return nnunet_folders


def test_every_pair_of_arms_is_tested_in_a_family_of_its_own(three_arms: Path, tmp_path: Path) -> None:
    result = compare([801], out=tmp_path / "out", draws=200).results[0]
    wide = result.per_case.pivot(index="case", columns="arm", values="dice")
    assert set(zip(result.pairs["arm"], result.pairs["compared_with"], strict=True)) == set(
        itertools.combinations([arm.name for arm in result.arms], 2)
    )
    p = []
    for _, row in result.pairs.iterrows():
        difference = wide[row["arm"]] - wide[row["compared_with"]]
        p.append(stats.wilcoxon(difference, zero_method="pratt").pvalue)
        assert row["difference"] == pytest.approx(difference.mean())
    assert list(result.pairs["p"]) == pytest.approx(p)
    assert list(result.pairs["p_holm"]) == pytest.approx(list(holm(np.array(p))))


def test_ranks_follow_the_means(three_arms: Path, tmp_path: Path) -> None:
    result = compare([801], out=tmp_path / "out", draws=200).results[0]
    table = result.ranks.merge(result.summary[["arm", "dice"]], on="arm")
    assert list(table["rank"]) == list(stats.rankdata(-table["dice"]))
    assert list(table[["share_1", "share_2", "share_3"]].sum(axis=1)) == pytest.approx([1, 1, 1])
    # 0.9 of each reference kept against 0.5 and 0.6: first in every sample
    assert table.set_index("arm").loc[T1, "share_1"] == 1


def test_the_region_of_equivalence_is_the_users(three_arms: Path, tmp_path: Path) -> None:
    result = compare([801], out=tmp_path / "out", rope=0.9, draws=200).results[0]
    assert (result.tests["p_equivalent"] > 0.9).all()


def test_a_baseline_that_fits_several_arms_has_to_be_chosen(nnunet_folders: Path, tmp_path: Path) -> None:
    write_results(nnunet_folders, {f"{SCRATCH}_sawtooth": 0.5, f"{SCRATCH}_5epochs": 0.5, T1: 0.9})
    with pytest.raises(ComparisonError, match="fits several arms"):
        compare([801], out=tmp_path / "out")
    chosen = compare([801], out=tmp_path / "out", baseline=f"{SCRATCH}_sawtooth", draws=100)
    assert chosen.results[0].baseline == f"{SCRATCH}_sawtooth"


FRAME = pd.DataFrame({"title": ["a_b & <c>"], "x": [-0.00001], "low": [-0.5], "high": [0.5], "n": [3], "n_cases": [4]})
COLUMNS = {"title": Column("Arm"), "x": Column("Value", 3, low="low", high="high", count="n", sign=True)}


def test_tables_escape_text_and_say_n_where_it_differs() -> None:
    page, source = html_table(FRAME, COLUMNS), latex_table(FRAME, COLUMNS, "50 %")
    assert "a_b &amp; &lt;c&gt;" in page
    assert r"a\_b \& $<$c$>$" in source
    assert r"50 \%" in source
    for text in (page, source):
        assert "+0.000 (-0.500 to +0.500) (n = 3)" in text


def test_latex_escapes_every_special_character() -> None:
    text = latex("\\&%$#_{}~^<>")
    assert not re.search(r"(?<![\\$])[&%#_~^](?!\{)", text)
    assert text.startswith(r"\textbackslash{}\&\%\$\#\_\{\}")
