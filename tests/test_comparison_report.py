"""Seeds, learning curves, ranks, lesions and volumes of a comparison, against plain loops; the report's tables."""

from __future__ import annotations

import base64
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from urllib.parse import unquote

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_transfer.comparison import (
    CompareSettings,
    Comparison,
    ReportText,
    case_section,
    compare,
    figures,
    figures_lesions,
    figures_training,
    viewer,
)
from nnunet_transfer.comparison.codes import arm_codes, needs_codes, with_codes
from nnunet_transfer.comparison.lesions import STRATA, size_sensitivity
from nnunet_transfer.comparison.pages import render
from nnunet_transfer.comparison.report_tables import tables
from nnunet_transfer.comparison.results import Arm
from nnunet_transfer.comparison.run_card import references_checksum
from nnunet_transfer.comparison.training_logs import read_epochs
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.naming import TrainerName
from tests import accessibility
from tests.comparison_data import model_folder, write_results

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
        for trainer in QUALITIES:
            for fold in range(3):
                log = model_folder(folders, trainer) / f"fold_{fold}" / "training_log_2026_1_1.txt"
                lines = [
                    "Epoch 0",
                    "train_loss -0.5",
                    "val_loss -0.4",
                    "Pseudo dice [np.float32(0.5)]",
                    "Epoch time: 1.0 s",
                ]
                log.write_text("".join(f"2026-01-01 10:00:00.0: {line} \n" for line in lines))
        command = "nnunet_transfer compare -d 801"
        return compare(
            [801],
            out=folders / "out",
            settings=CompareSettings(protocols=["atlas_r2"], draws=400),
            text=ReportText(command=command),
        )


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


def test_volumes_have_bias_and_limits_of_agreement(comparison: Comparison, cases: pd.DataFrame) -> None:
    own = cases[cases["arm"] == T1].groupby("case")[["volume_pred_ml", "volume_ref_ml"]].mean()
    difference = own["volume_pred_ml"] - own["volume_ref_ml"]
    row = comparison.results[0].volumes.set_index("arm").loc[T1]
    assert row["bias_ml"] == pytest.approx(difference.mean())
    assert row["limit_high_ml"] - row["bias_ml"] == pytest.approx(1.96 * difference.std(ddof=1))
    assert row["bias_low_ml"] < row["bias_ml"] < row["bias_high_ml"] < 0


def test_every_table_is_there_as_latex_and_every_figure_as_svg(comparison: Comparison) -> None:
    folder = comparison.report.parent
    tables = {path.stem.split("_", 2)[2]: path.read_text(encoding="utf-8") for path in (folder / "tables").iterdir()}
    tests = {f"tests_{metric}" for metric in ("dice", "iou", "atlas_r2_f1")}
    assert {"summary", "procedure", "ranks", "detection", "volumes", "curves", *tests} <= set(tables)
    assert "Holm" in tables["tests_dice"]
    for text in tables.values():
        rows = re.findall(r"^(?!\\).*\\\\$", text, re.M)
        assert len({row.count(" & ") for row in rows}) == 1
        assert text.count(r"\begin{") == text.count(r"\end{") == 2
    drawn = {path.name.split("_", 2)[2] for path in (folder / "figures").glob("*.svg") if path.name.startswith("Data")}
    assert {"curves.svg", "ranks.svg", "volumes_1.svg", "sizes_atlas_r2.svg", "dots.svg", "training.svg"} <= drawn


class Page(HTMLParser):
    """What a reader's software finds in a page."""

    VOID: ClassVar = {"meta", "img", "link", "br", "input", "use", "rect", "path", "image"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> Page:
    return Page(comparison.report.read_text(encoding="utf-8"))


def test_the_page_needs_no_network_and_its_links_lead_somewhere(comparison: Comparison, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for key in ("src", "href"):
            address = attributes.get(key)
            if address is None or address.startswith("https://doi.org/"):
                continue
            if address.startswith("#"):
                assert address[1:] in ids, address
            elif not address.startswith("data:image/"):
                assert tag == "a"
                assert (comparison.report.parent / unquote(address)).exists(), address


def test_the_page_tells_those_who_do_not_see_it(page: Page) -> None:
    tables = page.all("table")
    assert len(page.all("caption")) == len(tables) > 8
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    images = page.all("img")
    assert len(images) > 5
    # figures say numbers, not only what kind they are
    assert all(re.search(r"\d\.\d|\d %|pairs", image["alt"] or "") for image in images)
    assert all(svg.get("aria-label") for svg in page.all("svg"))
    assert page.headings[0] == 1
    assert all(deeper - before <= 1 for before, deeper in itertools.pairwise(page.headings))
    assert page.all("html")[0]["lang"] == "en"


@pytest.mark.slow
def test_axe_finds_nothing_serious_on_light_and_dark_pages(comparison: Comparison, tmp_path: Path) -> None:
    accessibility.browser()
    script = accessibility.axe_script(tmp_path / "npm")
    for dark in (False, True):
        found = accessibility.findings(comparison.report, script, tmp_path, dark=dark)
        assert [finding for finding in found if finding[0] in accessibility.SERIOUS] == []


def test_every_case_is_in_the_table_worst_difference_first(comparison: Comparison, cases: pd.DataFrame) -> None:
    text = comparison.report.read_text(encoding="utf-8")
    table = text[text.index('<table class="cases">') :]
    rows = re.findall(r'<tbody id="\w+">\s*<tr><th scope="row">(.*?)</th>(.*?)</tr>', table, re.S)
    wide = cases[cases["arm"].isin([SCRATCH, T1])].groupby(["arm", "case"])["dice"].mean().unstack("arm")
    expected = (wide[T1] - wide[SCRATCH]).sort_values(kind="stable")
    assert [case for case, _ in rows] == list(expected.index)
    for case, cells in rows:
        shown = re.findall(r"<td>(.*?)</td>", cells)
        assert shown[-3:] == [f"{expected[case]:+.3f}", f"{wide.loc[case, SCRATCH]:.3f}", f"{wide.loc[case, T1]:.3f}"]
    # pictures of all: there are few
    assert table.count("data:image/jpeg") == 3 * N_CASES


@pytest.mark.parametrize(
    ("limit", "everything"), [(("PICTURED", 3), False), (("MOST_BYTES", 0), False), (("PICTURED", 3), True)]
)
def test_cases_without_room_in_the_page_have_pages_beside_it_on_request(
    limit: tuple[str, int], everything: bool, comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_section, *limit)
    result = comparison.results[0]
    (tmp_path / "figures").mkdir()
    shown = case_section.case_section(result, arm_codes([result]), False, tmp_path, all_cases=everything, share=1.0)
    inside, beside = {"PICTURED": (3, N_CASES - 3 if everything else 0), "MOST_BYTES": (0, N_CASES)}[limit[0]]
    assert (shown.pictured, len(shown.pages)) == (inside, beside)
    for key, address in shown.pages.items():
        own = Page((tmp_path / address).read_text(encoding="utf-8"))
        assert len(own.all("svg")) == 9
        assert not shown.pictures[key]
        for link in own.all("a"):
            href = link["href"] or ""
            if not href.startswith("../report.html#"):
                assert (tmp_path / "cases" / unquote(href)).exists()
    # the table holds all of them
    page = render("cases.html", cases=shown, target={"title": "t"})
    assert page.count("<tbody id=") == N_CASES
    assert page.count("data:image/jpeg") == 3 * inside
    assert page.count(">Pictures of ") == beside


def test_a_viewer_holds_the_volumes_of_its_case_and_its_arms(comparison: Comparison, tmp_path: Path) -> None:
    script = tmp_path / "niivue.umd.js"
    script.write_text("import {Niivue} from './niivue.js'")
    with pytest.raises(ComparisonError, match="npm pack"):
        viewer.niivue_script(script)
    with pytest.raises(ComparisonError, match="is not a file"):
        viewer.niivue_script(tmp_path / "none.js")
    script.write_text("(function(a,b){b(a.niivue={})})(this,function(){})")
    viewer.place_script(viewer.niivue_script(script), tmp_path)
    result = comparison.results[0]
    (tmp_path / "figures").mkdir()
    shown = case_section.case_section(
        result, arm_codes([result]), False, tmp_path, all_cases=False, share=1.0, viewer=True
    )
    assert len(shown.viewers) == N_CASES
    page = render("cases.html", cases=shown, target={"title": "t"})
    for row in shown.rows:
        assert f'href="{shown.viewers[row.key]}"' in page
        text = (tmp_path / shown.viewers[row.key]).read_text(encoding="utf-8")
        assert (tmp_path / "viewer" / Page(text).all("script")[0]["src"]).is_file()
        assert [option.strip() for option in re.findall(r"<option[^>]*>(.*?)</option>", text)] == [
            *(arm.title for arm in result.arms),
            "none",
        ]
        stored = result.target.references[row.case].read_bytes()
        assert base64.b64encode(stored).decode() in text


def test_the_run_card_names_data_arms_and_command(comparison: Comparison, tmp_path: Path) -> None:
    text = comparison.report.read_text(encoding="utf-8")
    target = comparison.results[0].target
    before = references_checksum(target)
    assert before in text
    changed = tmp_path / "changed.nii.gz"
    changed.write_bytes(b"another mask")
    case = next(iter(target.references))
    assert references_checksum(replace(target, references={**target.references, case: changed})) != before
    card = text[text.index('id="card"') : text.index('id="verdict"')]
    for words in ("nnunet_transfer compare -d 801", "T1 segmentation", "t1_segmentation", "cases.csv"):
        assert words in card


def test_the_table_of_folds_has_a_row_for_every_seed_and_a_column_for_every_fold(
    comparison: Comparison, cases: pd.DataFrame
) -> None:
    result = comparison.results[0]
    (table,) = (t for t in tables(result) if t.name == "folds")
    headings = [column.heading for column in table.columns.values()]
    assert headings[:5] == ["Arm", "Seed", "Fold 0, n = 3", "Fold 1, n = 3", "Fold 2, n = 3"]
    assert table.frame[["arm", "seed"]].to_numpy().tolist() == [
        [a, s] for a in (SCRATCH, T1) for s in ("all", "0", "1")
    ]
    means = cases[cases["fold"] == 1].groupby(["arm", "seed"])["dice"].mean()
    shown = table.frame.set_index(["arm", "seed"])["fold_1"]
    assert shown[T1, "1"] == f"{means[T1, 1]:.3f}"
    assert shown[T1, "all"] == f"{means[T1].mean():.3f} ({means[T1].mean() - means[SCRATCH].mean():+.3f})"
    assert shown[SCRATCH, "all"] == f"{means[SCRATCH].mean():.3f}"
    odd = (result.folds["arm"] == T1) & (result.folds["seed"] == "1") & result.folds["fold"].isin([0, 2])
    (table,) = (t for t in tables(replace(result, folds=result.folds.assign(outlier=odd))) if t.name == "folds")
    assert "note" in table.columns
    assert table.frame["note"].tolist() == ["", "", "", "", "", "Folds 0 and 2 stand out"]
    (table,) = (t for t in tables(replace(result, folds=result.folds.assign(outlier=False))) if t.name == "folds")
    assert "note" not in table.columns


def test_the_training_logs_are_read_as_nnunet_writes_them(tmp_path: Path) -> None:
    def log(epochs: range, shift: float) -> str:
        lines = ["This is the configuration used by this training: Epoch 99"]
        for epoch in epochs:
            for text in (
                f"Epoch {epoch} ",
                "Current learning rate: 0.01 ",
                f"train_loss {-0.1 * epoch + shift:.4f} ",
                f"val_loss {-0.05 * epoch + shift:.4f} ",
                f"Pseudo dice [np.float32({0.1 * epoch:.4f}), np.float32(nan), {0.1 * epoch + 0.2:.4f}] ",
                "Epoch time: 12.5 s ",
            ):
                lines.append(f"2026-01-01 10:00:00.000001: {text}")
        return "\n".join([*lines, "2026-01-01 10:00:00.000001: Epoch 77 ", ""])

    (tmp_path / "training_log_2026_1_01.txt").write_text(log(range(3), 0))
    (tmp_path / "training_log_2026_1_02.txt").write_text(log(range(2, 5), 1))  # continued with --c
    found = read_epochs(tmp_path)
    assert list(found) == [0, 1, 2, 3, 4]
    assert found[1] == pytest.approx({"train_loss": -0.1, "val_loss": -0.05, "pseudo_dice": 0.2, "seconds": 12.5})
    assert found[2]["train_loss"] == pytest.approx(0.8)
    assert read_epochs(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("n_arms", [2, 14])
def test_the_arms_of_a_stratum_stay_apart_from_those_of_the_next(n_arms: int) -> None:
    arms = [SimpleNamespace(name=str(i), title=f"A{i}", domain="", task="") for i in range(n_arms)]
    sizes = pd.DataFrame(
        [
            {
                "protocol": "p",
                "arm": arm.name,
                "stratum": s,
                "sensitivity": 0.5,
                "low": 0.25,
                "high": 0.75,
                "n_lesions": 3,
            }
            for arm in arms
            for s in STRATA[:3]
        ]
    )
    drawn = figures_lesions.size_sensitivity(SimpleNamespace(arms=arms, sizes=sizes), "p")  # type: ignore[arg-type]
    x = np.array([container[0].get_xdata() for container in drawn.axes[0].containers])
    assert x.shape == (n_arms, 3)
    assert (x[:, 1:].min(axis=0) - x[:, :-1].max(axis=0)).min() > 0.15
    assert (np.diff(x, axis=0) > 0.05).all()
    plt.close(drawn)


def test_each_arms_training_is_drawn_beside_that_of_its_own_baseline() -> None:
    arms = [SimpleNamespace(name=n, title=n, domain="", task="") for n in ("s1", "s2", "a1", "a2", "n")]
    values = {"s1": 0.25, "s2": 0.5, "a1": 0.75, "a2": 1.0, "n": 0.125}
    curves = pd.DataFrame(
        [
            {"arm": arm, "seed": 0, "fold": fold, "epoch": epoch, "pseudo_dice": value}
            for arm, value in values.items()
            for fold in (0, 1)
            for epoch in (0, 1)
        ]
    )
    baselines = {"s1": "s1", "s2": "s2", "a1": "s1", "a2": "s2"}
    drawn = figures_training.training(SimpleNamespace(arms=arms, baseline="s1", baselines=baselines), curves)  # type: ignore[arg-type]
    grey = [[line.get_ydata()[0] for line in a.lines if line.get_color() == figures_training.GREY] for a in drawn.axes]
    assert grey[:5] == [[], [], [0.25], [0.5], [0.25]]
    drawn.canvas.draw()
    # five panels in rows of four: those of the first row that have none below them, and the last, have their ticks named
    named = [any(label.get_visible() and label.get_text() for label in a.get_xticklabels()) for a in drawn.axes[:5]]
    assert named == [False, True, True, True, True]
    plt.close(drawn)


def test_long_names_become_the_same_codes_in_every_target(comparison: Comparison) -> None:
    result = comparison.results[0]
    assert not needs_codes([result])
    long = replace(result, arms=tuple(replace(arm, title=f"{arm.title} {'x' * 30}") for arm in result.arms))
    assert needs_codes([long])
    codes = arm_codes([long, result])
    assert list(codes.values()) == ["A1", "A2"]
    coded = with_codes(long, codes)
    assert [arm.title for arm in coded.arms] == ["A1", "A2"]
    assert list(coded.tests["title"].unique()) == ["A2"]
    assert set(coded.curves["arm"]) == set(result.curves["arm"])


def test_methods_cite_what_they_list(comparison: Comparison) -> None:
    page = comparison.report.read_text(encoding="utf-8")
    methods = page[page.index('<section id="methods"') : page.index("</main>")]
    numbers = [int(n) for n in re.findall(r"\[(\d+)\]", methods)]
    assert sorted(set(numbers)) == list(range(1, methods[methods.index("<ol") :].count("<li>") + 1))
    assert list(dict.fromkeys(numbers)) == sorted(set(numbers))
    assert "numpy " in methods
    listed = re.findall(r"<li>(.*?)</li>", methods[methods.index("<ol") :])
    for words, author in (("two-level bootstrap over training runs and subjects", "Rao"), ("Holm&#39;s rule", "Holm")):
        number = re.search(rf"{words} \[(\d+)\]", methods)
        assert number is not None
        assert listed[int(number[1]) - 1].startswith(author)


def test_the_grid_has_a_panel_for_every_recipe_and_every_cell_of_the_table() -> None:
    arms = [
        ("lpft", "classification", "natural images", 0.09),
        ("lpft", "segmentation", "T1 brain MRI", 0.142),
        ("sawtooth", "classification", "natural images", -0.063),
        ("sawtooth", "segmentation", "T1 brain MRI", -0.135),
    ]
    table = pd.DataFrame(arms, columns=["panel", "task", "domain", "difference"])
    result = SimpleNamespace(grid=table, target=SimpleNamespace(title="stroke"))
    drawn = figures.grid([result])  # type: ignore[list-item]
    assert drawn is not None
    panels = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in drawn.axes if axis.get_title()}
    assert set(panels) == {"stroke: lpft", "stroke: sawtooth"}
    for name, _, _, value in arms:
        assert f"{value:+.3f}".replace("-", "−") in [t.replace("-", "−") for t in panels[f"stroke: {name}"]]
    assert sum(text != "not run" for texts in panels.values() for text in texts) == len(arms)
