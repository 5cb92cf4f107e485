"""Tables with information on each case of a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.paths import nnunet_preprocessed, nnunet_raw
from nnunet_transfer.registration import nearest
from nnunet_transfer.tables import read_rows

CASE = "case"
#: separator of several entries in a cell
SEPARATOR = ";"


def find_case_file(dataset: str, name: str, columns: Iterable[str], purpose: str) -> Path:
    """Return the path of a data set's file in the preprocessed folder, or in the raw folder if it isn't there.

    Parameters
    ----------
    columns : possible names of the second column, for the error
    purpose : what needs the file, for the error

    Raises
    ------
    DataError
        If the file doesn't exist.
    """
    candidates = [nnunet_preprocessed() / dataset / name]
    with contextlib.suppress(SettingsError):  # training only needs the preprocessed folder
        candidates.append(nnunet_raw() / dataset / name)
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(
        f"{dataset} has no {name}: {purpose}; write a table with the columns {_headers(columns)} to {candidates[-1]}"
    )


def read_case_file(
    path: Path, columns: Collection[str], cases: Iterable[str], may_be_empty: Collection[str] = ()
) -> tuple[str, dict[str, str]]:
    """Read a table with the columns `case` and one of `columns`, and check it against the data set's cases.

    Parameters
    ----------
    may_be_empty : columns whose cells may be empty

    Returns
    -------
    column : the second column of the table
    cells : case -> cell

    Raises
    ------
    DataError
        If a column, a cell or a case is missing, or a case is unknown or occurs twice.
    """
    column, rows = _read_rows(path, columns)
    known = set(cases)
    cells: dict[str, str] = {}
    for line, case, cell in rows:
        if not case or not (cell or column in may_be_empty):
            raise DataError(f"{path}, line {line}: {CASE} or {column} is empty; fill it in or remove the line")
        if case in cells:
            raise DataError(f"{path}, line {line}: case {case} is given twice; keep one line per case")
        cells[case] = cell
    _refuse(path, sorted(set(cells) - known), "is not in the data set", "remove the line or preprocess the case")
    _refuse(path, sorted(known - set(cells)), f"has no {column}", "add a line for it")
    return column, cells


def _read_rows(path: Path, columns: Collection[str]) -> tuple[str, list[tuple[int, str, str]]]:
    """Return the second column's name, and the line number, case and cell of each row."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; write a table with the columns {_headers(columns)}")
    (_, header), *lines = read_rows(path)
    column = _column(path, header, columns)
    places = header.index(CASE), header.index(column)
    rows = []
    for line, cells in lines:
        if any(cells[len(header) :]):
            raise DataError(
                f"{path}, line {line}: more cells than columns; separate several classes by "
                f"'{SEPARATOR}' and write numbers with a decimal point"
            )
        case, cell = (cells[place] if place < len(cells) else "" for place in places)
        rows.append((line, case, cell))
    return column, rows


def _column(path: Path, header: Sequence[str], columns: Collection[str]) -> str:
    if CASE not in header:
        raise DataError(f"{path}: column {CASE} is missing; the first line must name the columns {_headers(columns)}")
    found = [column for column in columns if column in header]
    if not found:
        near = [name for name in header if name != CASE and nearest(name.lower(), columns)]
        hint = f" (there is {near[0]})" if near else ""
        raise DataError(
            f"{path}: column {next(iter(columns))} is missing{hint}; the first line must name the columns "
            f"{_headers(columns)}"
        )
    if len(found) > 1:
        raise DataError(f"{path} has the columns {' and '.join(found)}; keep the one to be learnt, rename the others")
    return found[0]


def _headers(columns: Iterable[str]) -> str:
    return " or ".join(f"{CASE},{column}" for column in columns)


def _refuse(path: Path, cases: Sequence[str], fault: str, fix: str) -> None:
    if cases:
        more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
        raise DataError(f"{path}: case {cases[0]}{more} {fault}; {fix}")
