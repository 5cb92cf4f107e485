"""Tables, codes and markers of a report, each by itself."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd

from nnunet_transfer.comparison import figures
from nnunet_transfer.comparison.case_table import ArmScores, CaseRow, telling_cases
from nnunet_transfer.comparison.markup import Column, html_table, latex, latex_table

FRAME = pd.DataFrame({"title": ["a_b & <c>"], "x": [-0.00001], "low": [-0.5], "high": [0.5], "n": [3], "n_cases": [4]})
COLUMNS = {"title": Column("Arm"), "x": Column("Value", 3, low="low", high="high", count="n", sign=True)}


def test_tables_escape_text_and_say_n_where_it_differs() -> None:
    page, source = html_table(FRAME, COLUMNS, "<b>"), latex_table(FRAME, COLUMNS, "50 %")
    assert "a_b &amp; &lt;c&gt;" in page
    assert "<caption><span>&lt;b&gt;</span></caption>" in page
    assert r"a\_b \& $<$c$>$" in source
    assert r"50 \%" in source
    for text in (page, source):
        assert "+0.000 (-0.500 to +0.500) (n = 3)" in text


def test_columns_of_words_are_aligned_to_the_left_and_numbers_to_the_right() -> None:
    frame = pd.DataFrame({"title": ["a"], "fold": ["0"], "method": ["sign flips"], "p": [0.0001]})
    columns = {
        "title": Column("Arm"),
        "fold": Column("Fold"),
        "method": Column("Method"),
        "p": Column("p", 3, p_value=True),
    }
    page = html_table(frame, columns)
    assert '<td class="words">sign flips</td>' in page
    assert "<td>0</td>" in page
    assert "<td>&lt;&nbsp;0.001</td>" in page
    assert r"\begin{tabular}{lrlr}" in latex_table(frame, columns, "")


def test_a_folded_table_opens_without_a_script_and_columns_without_text_are_left_out() -> None:
    frame = pd.DataFrame({"title": ["a", "b"], "x": [0.5, 1.0], "note": ["", ""]})
    columns = {"title": Column("Arm"), "x": Column("Value", 1), "note": Column("remark")}
    page = html_table(frame, columns, "Others", folded=True)
    assert page.startswith('<details class="folded"><summary>Others</summary>')
    assert page.endswith("</details>")
    assert "remark" not in page
    assert "remark" in html_table(frame.assign(note=["", "stands out"]), columns, "Others")


def test_arms_of_one_task_and_domain_are_told_apart_by_their_markers() -> None:
    arms = [SimpleNamespace(name=n, task="segmentation", domain=d) for n, d in (("a", ""), ("b", ""), ("c", "CT"))]
    drawn = figures.styles(SimpleNamespace(arms=arms))  # type: ignore[arg-type]
    assert drawn["a"] != drawn["b"]
    assert drawn["a"]["color"] == drawn["b"]["color"] != drawn["c"]["color"]


def test_latex_escapes_every_special_character() -> None:
    text = latex("\\&%$#_{}~^<>")
    assert not re.search(r"(?<![\\$])[&%#_~^](?!\{)", text)
    assert text.startswith(r"\textbackslash{}\&\%\$\#\_\{\}")


def test_of_many_cases_those_that_differ_most_and_a_spread_are_drawn() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i, dice in enumerate(rng.random(200)):
        differences = rng.normal(0, 0.1, 3)
        arms = tuple(ArmScores(str(k), str(k), str(k), dice + d, d, 1.0) for k, d in enumerate(differences))
        rows.append(CaseRow(f"c{i}", f"case{i}", "s", "", 0, 1.0, min(differences), arms, (), 0, "", ""))
    rows.sort(key=lambda row: row.worst)
    chosen = telling_cases(rows, 30)
    assert len(chosen) == len({row.key for row in chosen}) == 30
    assert [row for row in rows if row in chosen] == chosen
    assert set(row.key for row in rows[:10]) <= {row.key for row in chosen}
    by_score = sorted(rows, key=lambda row: np.mean([arm.dice for arm in row.arms]))
    assert {by_score[0].key, by_score[-1].key} <= {row.key for row in chosen}
    best = max(rows, key=lambda row: max(arm.difference for arm in row.arms))
    assert best in chosen
    assert telling_cases(rows[:30], 30) == rows[:30]


def test_cases_without_scores_do_not_hide_the_best_and_the_worst() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i, dice in enumerate(rng.random(60)):
        score = np.nan if i % 3 == 0 else dice
        arms = tuple(ArmScores(code, code, code, score, d, 1.0) for code, d in (("a", np.nan), ("b", score - score)))
        rows.append(CaseRow(f"c{i}", f"case{i}", "s", "", 0, 1.0, score - score, arms, (), 0, "", ""))
    chosen = {row.key for row in telling_cases(rows, 12)}
    scored = sorted((row for row in rows if np.isfinite(row.worst)), key=lambda row: row.arms[0].dice)
    assert {scored[0].key, scored[-1].key} <= chosen
    nothing = [replace(row, arms=(replace(row.arms[0], dice=np.nan),)) for row in rows]
    assert len(telling_cases(nothing, 12)) == 12
