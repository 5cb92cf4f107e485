"""The write-up of iterations to Dice shows what its curves give: its tables are those that its script prints.

The numbers that sentences take from them, here and in the README, are worked out again.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
WRITE_UP = RESULTS / "iterations_to_dice.md"
STUDIES = ("main", "long", "ms", "3d")
#: columns of the table of curves, and of the one that counts comparisons
CURVES, GOALS = 9, 10


def _rows(text: str, columns: int) -> list[str]:
    """Return the rows of Markdown tables with so many columns, without their headers."""
    rows = [line.strip() for line in text.splitlines() if line.startswith("| ") and line.count("|") == columns + 1]
    return [row for row in rows if not re.match(r"\| (target|arm) \|", row)]


@pytest.fixture(scope="module")
def shown() -> str:
    return WRITE_UP.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    found = {}
    for study in STUDIES:
        command = [sys.executable, str(RESULTS / "iterations_to_dice/table.py"), "--of", study]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        found[study] = result.stdout
    return found


@pytest.mark.parametrize("study", STUDIES)
def test_every_row_that_the_curves_give_is_shown(study: str, printed: dict[str, str], shown: str) -> None:
    rows = _rows(printed[study], CURVES)
    assert rows
    assert [row for row in rows if row not in shown] == []


def test_no_other_row_is_shown(printed: dict[str, str], shown: str) -> None:
    known = {row for text in printed.values() for row in _rows(text, CURVES)}
    assert [row for row in _rows(shown, CURVES) if row not in known] == []


def test_the_goals_are_counted_as_shown(printed: dict[str, str], shown: str) -> None:
    rows = _rows(printed["main"], GOALS)
    assert rows
    assert [row for row in rows if row not in shown] == []


TISSUES, LESIONS = "T1 segmentation, longer, fitted", "T1 tissues and lesions, longer, fitted"
FASTER = ", rate 0.003"
ANATOMY, REAL = "anatomy", "real MS, T1 and FLAIR"
#: columns: Dice by fold in the table of curves; numbers in the table of goals
BEFORE, FINAL = 4, 5
WITHIN_A_QUARTER, RATIO, MARGIN = 5, 7, 8


class Printed:
    """The numbers of the tables that the script prints."""

    def __init__(self, text: str) -> None:
        self.curves = [[cell.strip() for cell in row.split("|")[1:-1]] for row in _rows(text, CURVES)]
        self.goals = [[cell.strip() for cell in row.split("|")[1:-1]] for row in _rows(text, GOALS)]

    def dice(self, target: str, arm: str, column: int) -> list[float]:
        """Return the Dice by fold, for all numbers of cases."""
        found = [row[column] for row in self.curves if (row[0], row[2]) == (target, arm)]
        return [float(value) for cell in found for value in cell.split()]

    def ends(self, target: str, arm: str, column: int) -> list[str]:
        """Return the lowest and the highest Dice."""
        values = self.dice(target, arm, column)
        return [f"{min(values):.2f}", f"{max(values):.2f}"]

    def goal(self, arm: str, column: int) -> str:
        """Return a number of the row of semi-synthetic lesions."""
        (row,) = [row for row in self.goals if row[:2] == [arm, "semi-synthetic lesions"]]
        value = row[column].split()[0]
        return value if column == WITHIN_A_QUARTER else f"{float(value):.2f}"

    def real(self, arm: str) -> list[str]:
        """Return the final Dice minus that of the best scratch, by fold, on real lesions."""
        pairs = zip(self.dice(REAL, arm, FINAL), self.dice(REAL, "*best scratch*", FINAL), strict=True)
        return [f"{arm - best:+.2f}".replace("-", "−").replace("−0.00", "0.00") for arm, best in pairs]


#: a sentence with gaps -> the page, and the numbers for its gaps
CLAIMS = {
    "had a Dice of {} to {} *before its first step*": (
        "README.md",
        lambda p: p.ends(ANATOMY, "T1 segmentation, fitted", BEFORE),
    ),
    "of four recipes, ended at {} to {}.": ("README.md", lambda p: p.ends(ANATOMY, "*best scratch*", FINAL)),
    "a median of {} of scratch's iterations and ended {} higher (`_fittedFaster`; {} and {} with the default recipe)": (
        "README.md",
        lambda p: [p.goal(arm, column) for arm in (LESIONS + FASTER, LESIONS) for column in (RATIO, MARGIN)],
    ),
    "needed {} and ended {} higher; with the default recipe it needed {} (": (
        "README.md",
        lambda p: [*(p.goal(TISSUES + FASTER, column) for column in (RATIO, MARGIN)), p.goal(TISSUES, RATIO)],
    ),
    "is at Dice {} to {} *before its first step*, and at {} to {} after three times": (
        WRITE_UP,
        lambda p: [end for arm in ("T1 segmentation, fitted", TISSUES) for end in p.ends(ANATOMY, arm, BEFORE)],
    ),
    "The best scratch ends at {} to {}, below": (WRITE_UP, lambda p: p.ends(ANATOMY, "*best scratch*", FINAL)),
    "a median of **{}** of scratch's iterations with either rate": (WRITE_UP, lambda p: [p.goal(LESIONS, RATIO)]),
    "at most 0.25 in {} of 24 comparisons with `fitted` and in {} with `fittedFaster`": (
        WRITE_UP,
        lambda p: [p.goal(arm, WITHIN_A_QUARTER) for arm in (LESIONS, LESIONS + FASTER)],
    ),
    "a final Dice {} and {} above the best scratch": (
        WRITE_UP,
        lambda p: [p.goal(arm, MARGIN) for arm in (LESIONS, LESIONS + FASTER)],
    ),
    "a median of {} of scratch's iterations with the default rate, {} with `fittedFaster`; at most 0.25 in {} and {} of": (
        WRITE_UP,
        lambda p: [p.goal(arm, column) for column in (RATIO, WITHIN_A_QUARTER) for arm in (TISSUES, TISSUES + FASTER)],
    ),
    "by {}, {}, {} and {}, after the longer pre-training by {}, {}, {} and {}, and with `fittedFaster` by {}, {}, {} and {}.": (
        WRITE_UP,
        lambda p: [x for arm in ("T1 segmentation, fitted", TISSUES, TISSUES + FASTER) for x in p.real(arm)],
    ),
}


@pytest.mark.parametrize("sentence", CLAIMS)
def test_sentences_have_the_numbers_of_the_tables(sentence: str, printed: dict[str, str]) -> None:
    page, numbers = CLAIMS[sentence]
    words = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert sentence.format(*numbers(Printed(printed["main"]))) in words
