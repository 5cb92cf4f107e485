"""Tables that commands print: in columns, which fit the terminal; one line per row where a program or a file reads them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

GAP = "  "
#: before a cell below its row, and before the further lines of such a cell
BELOW, FURTHER = " " * 4, " " * 6
#: cells that say nothing
EMPTY = ("", "-")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of which has the names of the columns."""
    print("\n".join(table_lines(rows, terminal_width())))


def terminal_width() -> int | None:
    """Return the terminal's number of columns; `None` if standard output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_lines(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return the lines of a table; cells of columns that don't fit into `width` are below their row, with the column's name.

    Examples
    --------
    >>> table_lines([("name", "licence"), ("a", "CC BY 4.0")], 12)
    ['name', 'a', '    licence:', '      CC BY', '      4.0']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    beside = len(widths)
    while width and beside > 1 and len(GAP) * (beside - 1) + sum(widths[:beside]) > width:
        beside -= 1
    lines = []
    for number, row in enumerate(rows):
        cells = (cell.ljust(widths[column]) for column, cell in enumerate(row[:beside]))
        lines.append(GAP.join(cells).rstrip())
        for name, cell in zip(rows[0][beside:], row[beside:], strict=True):
            if number and cell not in EMPTY:
                lines += wrapped(f"{name}: {cell}", width, BELOW, FURTHER)
    return lines


def wrapped(text: str, width: int | None, first: str, further: str) -> list[str]:
    """Return the lines of a text that begins with `first` and goes on with `further`; words are never cut."""
    if width is None:
        return [first + text]
    return textwrap.wrap(
        text,
        max(width, len(further) + 1),
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
