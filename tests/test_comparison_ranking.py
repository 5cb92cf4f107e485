"""The order of arms: podium, significance map, consensus over targets; the table in the terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from nnunet_transfer.comparison import alt_texts, terminal_table
from nnunet_transfer.comparison.consensus import consensus
from nnunet_transfer.comparison.figures_ranking import by_rank, podium, significance
from nnunet_transfer.comparison.terminal_table import text_table

#: Dice of three arms for four subjects; B and C are level for the last
SCORES = {"A": [0.9, 0.8, 0.1, 0.2], "B": [0.5, 0.9, 0.2, 0.6], "C": [0.4, 0.7, 0.3, 0.6]}


def result(title: str = "Stroke", **ranks: float) -> Any:
    """Return what the figures and tables read of a target's result."""
    arms = tuple(SimpleNamespace(name=name, title=f"arm {name}", task="", domain="") for name in SCORES)
    subjects = [
        {"arm": arm, "subject": f"s{i}", "dice": value}
        for arm, values in SCORES.items()
        for i, value in enumerate(values)
    ]
    pairs = [
        {"arm": "A", "compared_with": "B", "difference": -0.05, "p_holm": 0.2},
        {"arm": "A", "compared_with": "C", "difference": 0.0, "p_holm": 1.0},
        {"arm": "B", "compared_with": "C", "difference": 0.05, "p_holm": 0.01},
    ]
    titles = {name: f"arm {name}" for name in SCORES}
    return SimpleNamespace(
        arms=arms,
        target=SimpleNamespace(title=title),
        per_subject=pd.DataFrame(subjects),
        ranks=pd.DataFrame({"arm": list(ranks), "rank": list(ranks.values())}),
        pairs=pd.DataFrame(pairs),
        title_of=titles.__getitem__,
        protocols=(),
    )


def test_the_bars_of_a_podium_are_shares_of_subjects_and_ties_are_divided() -> None:
    figure = podium(result(A=2, B=1, C=3))
    assert figure is not None
    bars = figure.axes[1].containers  # one per arm, best first; a bar per place
    shares = {arm: [bar.get_height() for bar in found] for arm, found in zip("BAC", bars, strict=True)}
    assert shares["A"] == pytest.approx([1 / 4, 1 / 4, 2 / 4])  # 1st, 2nd, 3rd, 3rd
    assert shares["B"] == pytest.approx([1.5 / 4, 2.5 / 4, 0])  # 2nd, 1st, 2nd, 1st or 2nd
    assert shares["C"] == pytest.approx([1.5 / 4, 0.5 / 4, 2 / 4])  # 3rd, 3rd, 1st, 1st or 2nd
    lines = [line for line in figure.axes[0].lines if line.get_color() == "grey"]
    assert [sorted(line.get_ydata(), reverse=True) == list(line.get_ydata()) for line in lines] == [True] * 4
    titles = {text.get_text() for text in figure.legends[0].get_texts()}
    assert titles == {"1  arm B", "2  arm A", "3  arm C"}
    marks = {
        (text.get_text(), round(text.xy[0])) for text in figure.axes[1].texts
    }  # at each arm's most frequent places
    assert marks == {("1", 2), ("2", 3), ("3", 3)}
    words = alt_texts.podium(result(A=2, B=1, C=3))
    assert "4 subjects" in words
    assert words.endswith("arm B 38 %; arm C 38 %; arm A 25 %.")


def test_there_is_no_podium_where_no_subject_has_all_arms() -> None:
    other = result(A=1, B=2, C=3)
    subjects = other.per_subject["subject"].where(other.per_subject["arm"] != "A", "another")
    other.per_subject = other.per_subject.assign(subject=subjects).drop_duplicates(["arm", "subject"])
    assert podium(other) is None


def test_the_significance_map_has_the_best_arm_first_and_frames_what_is_significant() -> None:
    found = result(A=2, B=1, C=3)
    assert by_rank(found) == ["B", "A", "C"]
    axis = significance(found).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["arm B", "arm A", "arm C"]
    texts = {text.get_position(): text.get_text() for text in axis.texts}
    assert texts[2, 0] == "+0.050*"  # B minus C
    assert texts[0, 1] == "-0.050"  # A minus B
    assert len(axis.patches) == 2


def test_a_consensus_is_the_mean_of_ranks_among_the_arms_that_all_targets_have() -> None:
    table = consensus([result("Stroke", A=1, B=2, C=3), result("MS", A=3, C=1.5, D=1.5), result("WM", C=1, A=2, B=3)])
    # A and C only: ranks 1, 2, 2 and 2, 1, 1
    assert list(table["arm"]) == ["C", "A"]
    assert list(table["mean_rank"]) == pytest.approx([4 / 3, 5 / 3])
    assert list(table["place"]) == [1, 2]
    assert list(table.loc[table["arm"] == "A", ["Stroke", "MS", "WM"]].iloc[0]) == [1, 2, 2]
    tied = consensus([result("Stroke", A=1, B=2), result("MS", A=2, B=1)])
    assert list(tied["place"]) == [1.5, 1.5]
    assert consensus([result("Stroke", A=1, B=2)]).empty
    assert consensus([result("Stroke", A=1, B=2), result("MS", A=1, C=2)]).empty


def test_the_terminal_gets_one_table_whose_columns_say_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    protocols = {name: SimpleNamespace(name=name, title=title) for name, title in (("a", "ATLAS R2.0"), ("m", "MSSEG"))}

    def part(title: str, protocol: str) -> Any:
        summary = [
            {"arm": arm, "title": f"arm {arm}", "dice": dice, "miou_over_cases": 0.4, f"{protocol}_f1": f1}
            for arm, dice, f1 in (("A", 0.5, float("nan")), ("B", 0.75, 0.625), ("C", 0.25, 0.0))
        ]
        tests = [
            {"metric": "dice", "arm": "B", "difference": 0.25, "headline_low": -0.125, "headline_high": 0.5},
            {"metric": "iou", "arm": "B", "difference": 9.0, "headline_low": 9.0, "headline_high": 9.0},
        ]
        return SimpleNamespace(
            target=SimpleNamespace(title=title),
            protocols=(protocols[protocol],),
            summary=pd.DataFrame(summary),
            tests=pd.DataFrame(tests),
            baselines={"A": "A", "B": "A", "C": "C", "D": "C"},
            size="9 cases of 8 subjects",
        )

    monkeypatch.setattr(terminal_table, "_verdict", lambda result: "")  # test_wording.py has its sentences
    lines = text_table([part("Stroke", "a"), part("MS", "m")]).splitlines()
    rule = next(i for i, line in enumerate(lines) if set(line) == {"-", " "})
    head = " ".join(" ".join(lines[:rule]).split())
    for word in ("ATLAS R2.0", "MSSEG", "mIoU", "95 % interval"):
        assert word in head
    rows = [line.split() for line in lines[rule + 1 :]]
    assert " ".join(rows[0]) == "Stroke: 9 cases of 8 subjects"
    assert rows[1] == ["arm", "A", "0.500", "0.400", "-", "-", "baseline"]
    assert rows[2] == ["arm", "B", "0.750", "0.400", "0.625", "-", "+0.250", "-0.125", "to", "+0.500"]
    # a baseline of another recipe is one, too
    assert rows[3] == ["arm", "C", "0.250", "0.400", "0.000", "-", "baseline"]
    assert rows[6] == ["arm", "B", "0.750", "0.400", "-", "0.625", "+0.250", "-0.125", "to", "+0.500"]
    assert max(map(len, lines)) < 100
