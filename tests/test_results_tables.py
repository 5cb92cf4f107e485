"""The write-up of iterations to Dice shows what its curves give: its tables are those that its script prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[1] / "docs/results"
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
