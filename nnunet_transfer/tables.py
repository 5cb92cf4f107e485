"""Tables as text editors and spreadsheets save them."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import read_bytes, write_text


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a table that aren't empty, each with its line; at least a header.

    Tab-separated files are split at tabs without quoting, as in BIDS. Comma-separated files (`.csv`) may contain quotes, and may
    use semicolons or tabs. Other files without a tab in the header are read like these if it has commas or semicolons, as
    spreadsheets write them. A byte order mark, UTF-16 and any line endings are accepted.

    Raises
    ------
    DataError
        If it can't be read.
    """
    try:
        # one spelling of each accented letter, as in the names of cases
        text = unicodedata.normalize("NFC", _decoded(read_bytes(path)))
        lines = _split_quoted(text) if _is_quoted(path, text) else _split_at_tabs(text)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a table ({error}); save it as UTF-8 text") from None
    return lines or [(1, [""])]


def _decoded(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def _is_quoted(path: Path, text: str) -> bool:
    header = text.split("\n", 1)[0]
    return path.suffix.lower() == ".csv" or ("\t" not in header and not {",", ";"}.isdisjoint(header))


def _split_at_tabs(text: str) -> list[tuple[int, list[str]]]:
    lines = enumerate(text.split("\n"), start=1)
    return [(number, [cell.strip() for cell in line.split("\t")]) for number, line in lines if line.strip()]


def _split_quoted(text: str) -> list[tuple[int, list[str]]]:
    header = text.split("\n", 1)[0]
    delimiter = next((mark for mark in "\t;" if mark in header and "," not in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())
