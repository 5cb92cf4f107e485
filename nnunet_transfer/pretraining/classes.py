"""The file `classes.csv` of a data set."""

from __future__ import annotations

import contextlib
import csv
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.paths import nnunet_preprocessed, nnunet_raw
from nnunet_transfer.pretraining.class_tables import SEPARATOR, CaseTable, ClassTable, LabelTable, ValueTable

FILE_NAME = "classes.csv"
CASE = "case"
#: name of the second column -> kind of table
KINDS: dict[str, type[CaseTable]] = {kind.column: kind for kind in (ClassTable, LabelTable, ValueTable)}
_HEADERS = " or ".join(f"{CASE},{column}" for column in KINDS)


def find_class_table(dataset: str) -> Path:
    """Return the path of a data set's class table, in the preprocessed folder or else in the raw one.

    Raises
    ------
    DataError
        If there is none.
    """
    candidates = [nnunet_preprocessed() / dataset / FILE_NAME]
    with contextlib.suppress(SettingsError):  # training needs the preprocessed folder only
        candidates.append(nnunet_raw() / dataset / FILE_NAME)
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(
        f"{dataset} has no {FILE_NAME}: classification needs the class of each case; "
        f"write a table with the columns {_HEADERS} to {candidates[-1]}"
    )


def read_class_table(path: Path, cases: Iterable[str]) -> CaseTable:
    """Read a table, of the kind that its header says, and check it against the data set's cases.

    Raises
    ------
    DataError
        If a column, a case's cell or a case is missing, a case is unknown or given twice, or nothing can be learnt
        from the table.
    """
    kind, rows = _read_rows(path)
    known = set(cases)
    cells: dict[str, str] = {}
    for line, case, cell in rows:
        if not case or not (cell or kind.may_be_empty):
            raise DataError(f"{path}, line {line}: case or {kind.column} is empty; fill it in or remove the line")
        if case in cells:
            raise DataError(f"{path}, line {line}: case {case} is given twice; keep one line per case")
        cells[case] = cell
    _refuse(path, sorted(set(cells) - known), "is not in the data set", "remove the line or preprocess the case")
    _refuse(path, sorted(known - set(cells)), f"has no {kind.column}", "add a line for it")
    try:
        return kind.from_cells(cells)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read_rows(path: Path) -> tuple[type[CaseTable], list[tuple[int, str, str]]]:
    """Return the kind of table, and for each row its line number, case and cell."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            kind = _kind(path, reader.fieldnames or ())
            rows = []
            for row in reader:
                if any(row.get(None, ())):  # where csv puts surplus cells
                    raise DataError(
                        f"{path}, line {reader.line_num}: more cells than columns; separate several classes by "
                        f"'{SEPARATOR}' and write numbers with a decimal point"
                    )
                rows.append((reader.line_num, (row[CASE] or "").strip(), (row[kind.column] or "").strip()))
            return kind, rows
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; write a table with the columns {_HEADERS}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV table in UTF-8 ({error}); save it anew") from None


def _kind(path: Path, columns: Sequence[str]) -> type[CaseTable]:
    if CASE not in columns:
        raise DataError(f"{path}: column {CASE} is missing; the first line must name the columns {_HEADERS}")
    found = [column for column in KINDS if column in columns]
    if not found:
        near = [name for name in columns if name != CASE and difflib.get_close_matches(name.lower(), KINDS, n=1)]
        hint = f" (there is {near[0]})" if near else ""
        raise DataError(
            f"{path}: column {next(iter(KINDS))} is missing{hint}; the first line must name the columns {_HEADERS}"
        )
    if len(found) > 1:
        raise DataError(f"{path} has the columns {' and '.join(found)}; keep the one to be learnt, rename the others")
    return KINDS[found[0]]


def _refuse(path: Path, cases: Sequence[str], fault: str, mend: str) -> None:
    if cases:
        more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
        raise DataError(f"{path}: case {cases[0]}{more} {fault}; {mend}")
