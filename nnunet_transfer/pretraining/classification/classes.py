"""The file `classes.csv` of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nnunet_transfer.errors import DataError
from nnunet_transfer.pretraining.case_files import find_case_file, read_case_file
from nnunet_transfer.pretraining.classification.class_tables import CaseTable, ClassTable, LabelTable, ValueTable

FILE_NAME = "classes.csv"
#: name of the second column -> kind of table
KINDS: dict[str, type[CaseTable]] = {kind.column: kind for kind in (ClassTable, LabelTable, ValueTable)}


def find_class_table(dataset: str) -> Path:
    """Return the path of a data set's class table; raise a `DataError` if it doesn't exist."""
    return find_case_file(dataset, FILE_NAME, KINDS, "classification needs the class of each case")


def read_class_table(path: Path, cases: Iterable[str]) -> CaseTable:
    """Read a table, whose header determines its kind, and check it against the data set's cases.

    Raises
    ------
    DataError
        If the file is faulty (see `read_case_file`) or nothing can be learnt from it.
    """
    may_be_empty = [column for column, kind in KINDS.items() if kind.may_be_empty]
    column, cells = read_case_file(path, KINDS, cases, may_be_empty)
    try:
        return KINDS[column].from_cells(cells)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
