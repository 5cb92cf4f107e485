"""The report of a comparison: its page, its tables and pictures, and what a reader's software finds in it."""

from __future__ import annotations

import base64
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pandas as pd
import pytest

from nnunet_transfer.comparison import (
    CompareSettings,
    Comparison,
    case_section,
    compare,
    viewer,
)
from nnunet_transfer.comparison.codes import arm_codes, needs_codes, with_codes
from nnunet_transfer.comparison.pages import render
from nnunet_transfer.comparison.report_tables import tables
from nnunet_transfer.comparison.run_card import references_checksum
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.files import write_json
from tests import accessibility
from tests.comparison_data import model_folder, write_results
from tests.seeded_comparison import N_CASES, SCRATCH, T1


def test_every_table_is_there_as_latex_and_every_figure_as_svg(comparison: Comparison) -> None:
    folder = comparison.report.parent
    tables = {path.stem.split("_", 2)[2]: path.read_text(encoding="utf-8") for path in (folder / "tables").iterdir()}
    tests = {f"tests_{metric}" for metric in ("dice", "iou", "atlas_r2_f1")}
    assert {"summary", "procedure", "ranks", "detection", "volumes", "curves", *tests} <= set(tables)
    assert "Holm" in tables["tests_dice"]
    # an interval that is wider than others says why
    assert all("Interval covers" in tables[name] for name in ("tests_dice", "tests_other", "volumes"))
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
    # an arm that is only in the learning curves is an arm, too
    for words in ("nnunet_transfer compare -d 801", "T1 segmentation (3cases)", "t1_segmentation", "cases.csv"):
        assert words in card


def test_the_run_card_covers_the_trainings_of_all_folds(nnunet_folders: Path) -> None:
    write_results(nnunet_folders, {SCRATCH: 0.5, T1: 0.9})
    for fold, version in enumerate(("2.7", "2.8")):
        session = {"started": f"2026-01-0{fold + 1}T23:00", "updated": f"2026-01-0{fold + 2}T01:00"}
        for arm in (SCRATCH, T1):
            folder = model_folder(nnunet_folders, arm) / f"fold_{fold}"
            write_json(
                folder / "provenance.json", {"run": {}, "sessions": [session | {"versions": {"torch": version}}]}
            )
        loaded = {"source": "t1_segmentation", "task": "segmentation", "domain": "t1", "sha256": "a" * 64}
        loaded |= {"coverage": {"encoder": 1 - fold / 100}, "warnings": [f"warning of fold {fold}"]}
        write_json(model_folder(nnunet_folders, T1) / f"fold_{fold}" / "transfer_report.json", loaded)
    report = compare([801], out=nnunet_folders / "out", settings=CompareSettings(draws=100)).report
    card = report.read_text(encoding="utf-8").split('id="card"')[1].split('id="verdict"')[0]
    assert "trained 2026-01-01 to 2026-01-03" in card
    assert "torch 2.7 and 2.8" in card
    assert "encoder 99 %" in card
    assert all(f"T1 segmentation: warning of fold {fold}" in card for fold in (0, 1))


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
    assert "a seed stands out in a fold in the same way, by more than 0.1 from the fold&#39;s other seeds" in methods
    listed = re.findall(r"<li>(.*?)</li>", methods[methods.index("<ol") :])
    for words, author in (
        ("two-level bootstrap over training runs and subjects", "Rao"),
        ("Holm&#39;s method", "Holm"),
    ):
        number = re.search(rf"{words} \[(\d+)\]", methods)
        assert number is not None
        assert listed[int(number[1]) - 1].startswith(author)
