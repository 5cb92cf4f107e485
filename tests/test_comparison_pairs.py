"""All arms against each other, and against the baseline that the user chose."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import seaborn
from scipy import stats

from nnunet_transfer.comparison import CompareSettings, compare
from nnunet_transfer.comparison.report_tables import tables
from nnunet_transfer.comparison.statistics import holm
from nnunet_transfer.comparison.wording import sentence
from nnunet_transfer.errors import ComparisonError
from tests.comparison_data import QUALITY, write_results

SCRATCH, T1 = "nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation"


@pytest.fixture
def three_arms(nnunet_folders: Path) -> Path:
    write_results(nnunet_folders, QUALITY)
    return nnunet_folders


def test_every_pair_of_arms_is_tested_in_a_family_of_its_own(three_arms: Path, tmp_path: Path) -> None:
    result = compare([801], out=tmp_path / "out", settings=CompareSettings(draws=200, tables_only=True)).results[0]
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
    result = compare([801], out=tmp_path / "out", settings=CompareSettings(draws=200, tables_only=True)).results[0]
    table = result.ranks.merge(result.summary[["arm", "dice"]], on="arm")
    assert list(table["rank"]) == list(stats.rankdata(-table["dice"]))
    assert list(table[["share_1", "share_2", "share_3"]].sum(axis=1)) == pytest.approx([1, 1, 1])
    # 0.9 of each reference kept against 0.5 and 0.6: first in every sample
    assert table.set_index("arm").loc[T1, "share_1"] == 1


def test_the_region_of_equivalence_is_the_users(three_arms: Path, tmp_path: Path) -> None:
    result = compare(
        [801], out=tmp_path / "out", settings=CompareSettings(rope=0.9, draws=200, tables_only=True)
    ).results[0]
    assert set(result.tests.query("metric == 'dice'")["verdict"]) == {"equal"}


def test_a_baseline_that_fits_several_arms_has_to_be_chosen(nnunet_folders: Path, tmp_path: Path) -> None:
    write_results(nnunet_folders, {f"{SCRATCH}_sawtooth": 0.5, f"{SCRATCH}_5epochs": 0.5, T1: 0.9})
    with pytest.raises(ComparisonError, match="fits several arms"):
        compare([801], out=tmp_path / "out")
    chosen = compare(
        [801],
        out=tmp_path / "out",
        settings=CompareSettings(baseline=f"{SCRATCH}_sawtooth", draws=100, tables_only=True),
    )
    assert chosen.results[0].baseline == f"{SCRATCH}_sawtooth"


def test_arms_of_each_recipe_are_compared_with_the_baseline_of_that_recipe(
    nnunet_folders: Path, tmp_path: Path
) -> None:
    # the default recipe isn't in the names, which are what a study with two recipes writes
    pairs = {T1: SCRATCH, f"{T1}_lpft": f"{SCRATCH}_lpft"}
    write_results(nnunet_folders, {SCRATCH: 0.5, f"{SCRATCH}_lpft": 0.6, T1: 0.9, f"{T1}_lpft": 0.7})
    settings = CompareSettings(draws=100, tables_only=True)
    made = compare([801], out=tmp_path / "out", settings=settings)
    for table in (made.table("tests").query("metric == 'dice'"), made.table("grid")):
        assert dict(zip(table["arm"], table["compared_with"], strict=True)) == pairs
    assert "Scratch with the same recipe: T1 segmentation" in " ".join(made.report.read_text("utf-8").split())
    # by its full name, the default recipe is the baseline of all
    settings = replace(settings, baseline=f"{SCRATCH}_fitted")
    tests = compare([801], out=tmp_path / "out", settings=settings).table("tests")
    assert set(tests["compared_with"]) == {SCRATCH}
    assert tests["arm"].nunique() == 3


def test_a_sentence_names_the_baseline_that_its_arms_are_compared_with(nnunet_folders: Path, tmp_path: Path) -> None:
    # the baseline without mirroring has none of its own kind but itself
    write_results(nnunet_folders, {SCRATCH: 0.9, f"{SCRATCH}_noMirroring": 0.5, f"{T1}_noMirroring": 0.9, T1: 0.6})
    made = compare([801], out=tmp_path / "out", settings=CompareSettings(draws=100, tables_only=True))
    said = sentence(made.results[0])
    assert "Dice was higher than in Scratch with the same mirroring: T1 segmentation (noMirroring) (+" in said
    assert "Dice was lower than in Scratch with the same mirroring: T1 segmentation (-" in said
    assert "Dice was lower than in Scratch: Scratch (noMirroring) (-" in said
    printed = {table.name: table for table in tables(made.results[0])}
    for name in ("tests_dice", "tests_other", "folds"):
        assert "compared_with_title" in printed[name].columns
        rows = printed[name].frame.set_index("arm")["compared_with_title"].to_dict()
        assert {T1: "Scratch", f"{T1}_noMirroring": "Scratch (noMirroring)"}.items() <= rows.items()


def test_the_table_of_recipes_names_its_control(nnunet_folders: Path, tmp_path: Path) -> None:
    other = "nnUNetTrainerNaturalClassification"
    arms = {f"{arm}{recipe}": 0.6 for arm in (SCRATCH, other, T1) for recipe in ("", "_lpft")}
    write_results(nnunet_folders, arms | {"nnUNetTrainer": 0.6})
    for baseline, title in ((SCRATCH, "Scratch"), (other, "Natural classification")):
        settings = CompareSettings(draws=100, tables_only=True, baseline=baseline)
        (result,) = compare([801], out=tmp_path / "out", settings=settings).results
        (caption,) = (table.caption for table in tables(result) if table.name == "recipes")
        assert caption.endswith(f"The control is {title}, with its recipe chosen in the same way.")
        # nnU-Net's trainer has no recipe of this package
        assert result.recipes.set_index("arm").loc["nnUNetTrainer, recipe chosen", "recipes"] == "its own (2)"
        # and one control needs no column
        (columns,) = (table.columns for table in tables(result) if table.name == "recipes")
        assert "compared_with_title" not in columns


def test_arms_on_numbers_of_cases_that_no_baseline_has_are_named(nnunet_folders: Path, tmp_path: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, f"{T1}_3cases": 0.6, f"{T1}_5cases": 0.7})
    settings = CompareSettings(draws=100, tables_only=True)
    said = " ".join(compare([801], out=tmp_path / "out", settings=settings).report.read_text("utf-8").split())
    alone = "T1 segmentation (3cases), T1 segmentation (5cases)"
    assert f"because their baselines were not trained on their numbers of cases: {alone}." in said
    assert "Scratch is the only arm trained on all cases: mean Dice" in said


def test_what_was_drawn_before_in_the_process_leaves_the_figures_alone(three_arms: Path, tmp_path: Path) -> None:
    compare([801], out=tmp_path / "first", settings=CompareSettings(draws=200))
    with matplotlib.rc_context():
        seaborn.set_theme(font_scale=2.5)  # as nnU-Net's logger does after each epoch
        compare([801], out=tmp_path / "second", settings=CompareSettings(draws=200))
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "figures").glob("*.png")}
        for name in ("first", "second")
    )
    assert len(first) > 5
    assert first == second
