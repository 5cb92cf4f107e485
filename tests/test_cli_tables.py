"""Tables that commands print: nothing is cut in a narrow terminal, and a program that reads them gets one line per row."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_transfer.checkpoints.catalogue import CATALOGUE
from nnunet_transfer.cli import main
from nnunet_transfer.commands import output
from nnunet_transfer.commands.output import table_lines
from nnunet_transfer.conversion.catalogue import all_descriptions
from nnunet_transfer.recipes import RECIPES

ROWS = [("name", "domain", "licence"), ("a", "t1", "free for research, if you cite it"), ("longer", "-", "-")]


def test_a_table_that_fits_has_one_line_per_row() -> None:
    aligned = [
        "name    domain  licence",
        "a       t1      free for research, if you cite it",
        "longer  -       -",
    ]
    assert table_lines(ROWS, None) == table_lines(ROWS, 49) == aligned


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (48, "name    domain/a       t1/    licence: free for research, if you cite it/longer  -"),
        (
            16,
            "name    domain/a       t1/    licence:/      free for/      research,/      if you/      cite it/longer  -",
        ),
    ],
)
def test_columns_that_do_not_fit_are_below_their_row(width: int, lines: str) -> None:
    assert table_lines(ROWS, width) == lines.split("/")


def test_no_word_is_cut_in_a_terminal_of_any_width() -> None:
    for width in range(1, 80):
        shown = " ".join(table_lines(ROWS, width)).split()
        assert all(word in shown for cell in ROWS[1] for word in cell.split())


@pytest.mark.parametrize("width", [40, 80, 200, None])
def test_lists_fit_the_terminal(
    width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("output", "trainers", "convert"):
        monkeypatch.setattr(f"nnunet_transfer.commands.{module}.terminal_width", lambda: width)
    assert main(["sources", "fetch"]) == 0
    listed = capsys.readouterr().out
    assert all(licence in " ".join(listed.split()) for licence in {entry.licence for entry in CATALOGUE.values()})
    if width is None:
        assert len(listed.splitlines()) == 1 + len(CATALOGUE)
    else:
        assert max(map(len, listed.splitlines())) <= width
    assert main(["convert", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(described.licence in " ".join(listed.split()) for described in all_descriptions().values())
    # a word, such as an address, stays in one piece
    assert all(len(line[14:].split()) == 1 for line in listed.splitlines() if len(line) > (width or 10_000))
    assert main(["trainers"]) == 0
    listed = capsys.readouterr().out
    assert all(recipe.summary in " ".join(listed.split()) for recipe in RECIPES.values())
    if width == 80:
        assert [line for line in listed.splitlines() if len(line) > 80 and not line.startswith("  NAME[")] == []


def test_an_empty_registry_says_so(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("list", "verify"):
        assert main(["sources", action]) == 0
        said = capsys.readouterr().err
        assert said.startswith(f"no sources in {nnunet_folders}")
        assert "sources fetch" in said


def test_output_that_is_no_terminal_has_no_width() -> None:
    assert output.terminal_width() is None
