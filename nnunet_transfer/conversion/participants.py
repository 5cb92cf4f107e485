"""Classes of cases from a table of participants: BIDS' `participants.tsv` and similar files."""

from __future__ import annotations

import bisect
import itertools
import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_transfer.conversion.description import Case, Request
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.tables import read_rows
from nnunet_transfer.words import counted

log = logging.getLogger(__name__)

#: an OpenNeuro accession number, as in OpenMind's folder names; subjects of two accessions are different people
ACCESSION = re.compile(r"ds\d{6}")
#: names of the subject and session columns
_SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "IXI_ID", "ID", "id")
_SESSION_COLUMNS = ("session_id", "session", "ses")
#: missing values, in any case; BIDS only allows n/a
MISSING = frozenset({"", "n/a", "na", "nan", "#n/a", "-", "--", "?", "unknown", "null"})
#: what a message calls the class of a subject that the table lacks
_NO_ROW = "not in the table"
CLASS_OPTIONS = {
    "class": "column of the table that holds the class, such as sex, diagnosis or age",
    "bins": "bounds that make classes of numbers: bins=40,60 gives below 40, 40 to 60, 60 and above",
    "table": "file with one row per participant (.tsv or .csv); default: participants.tsv beside the subjects",
    "missing": "leave-out: cases whose class is unknown are left out, otherwise they are an error",
    "na": "further values that mean unknown, such as na=999,refused (n/a, na, -, unknown and empty always do)",
}


@dataclass(frozen=True)
class Row:
    """A row of a table: its line in the file, and column -> cell."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table of participants: subject, as written in the table -> rows."""

    path: Path
    columns: tuple[str, ...]
    rows: dict[str, list[Row]]


def with_classes(request: Request, cases: list[Case]) -> Iterator[Case]:
    """Add the class of each case from its table; without `--option class`, cases have no class.

    Raises
    ------
    SettingsError
        If an option is wrong, or the table has no such column.
    DataError
        If a table can't be read, its rows disagree on a case, or a class is missing and missing classes are an error.
    """
    column = request.options.get("class", "")
    if not column:
        if unused := {"bins", "table", "missing", "na"} & request.options.keys():
            raise SettingsError(f"--option {sorted(unused)[0]} needs --option class=COLUMN")
        yield from cases
        return
    if request.options.get("missing", "leave-out") != "leave-out":
        raise SettingsError("--option missing can only be leave-out")
    to_class = _binning(request.options.get("bins", ""))
    missing = MISSING | {text.strip().casefold() for text in request.options.get("na", "").split(",")}
    tables: dict[Path, Table] = {}
    unknown: dict[str, list[str]] = defaultdict(list)
    known = 0
    for case in cases:
        path = _table_of(request, case)
        if path not in tables:
            tables[path] = read_table(path)
            _check_column(tables[path], column)
        value = value_of(tables[path], case, column, missing)
        if value.casefold() in missing:
            unknown[value or ("empty" if _rows_of(tables[path], case) else _NO_ROW)].append(case.name)
        else:
            known += 1
            yield replace(case, class_name=to_class(value), notes=(*case.notes, f"{column}: {value}"))
    if unknown:
        told = _unknown_classes(unknown, column)
        if "missing" not in request.options:
            raise DataError(f"{told}; complete the table or leave them out with --option missing=leave-out")
        if not known:
            raise DataError(f"{told}, so no case is left; do the names in the table and those of the files agree?")
        log.warning("%s; left out", told)


def _unknown_classes(unknown: dict[str, list[str]], column: str) -> str:
    names = [name for same in unknown.values() for name in same]
    values = ", ".join(f"{value} {len(same)}" for value, same in sorted(unknown.items()))
    return f"{column} of {counted(len(names), 'case')} is unknown ({values}), such as {', '.join(names[:3])}"


def _table_of(request: Request, case: Case) -> Path:
    """Return the given table, or the nearest participants.tsv above the case's image."""
    if given := request.options.get("table"):
        return Path(given).expanduser()
    image = case.images["T1"]
    assert isinstance(image, Path)
    for folder in image.parents:
        if (folder / "participants.tsv").is_file():
            return folder / "participants.tsv"
        if folder == request.root:
            break
    raise DataError(f"no participants.tsv between {image.parent} and {request.root}; give one with --option table=FILE")


def read_table(path: Path) -> Table:
    """Read a table with one row per participant or session.

    Tab-separated files are split at tabs without quoting, as in BIDS. Comma-separated files may contain quotes, and may use
    semicolons. A byte order mark and any line endings are accepted.

    Raises
    ------
    DataError
        If the table can't be read, a row is longer than the header, or there is no subject column.
    """
    (_, header), *rows = read_rows(path)
    subject = next((name for name in _SUBJECT_COLUMNS if name in header), "")
    if not subject:
        raise DataError(f"{path} has no column with the subject; name it participant_id (columns: {', '.join(header)})")
    by_subject: dict[str, list[Row]] = defaultdict(list)
    for line, cells in rows:
        if any(cells[len(header) :]):
            raise DataError(f"{path}: line {line} has {len(cells)} cells, the header {len(header)}; correct it")
        row = Row(line, dict(itertools.zip_longest(header, cells[: len(header)], fillvalue="")))
        by_subject[row.cells[subject]].append(row)
    return Table(path, tuple(header), dict(by_subject))


def _check_column(table: Table, column: str) -> None:
    if column not in table.columns:
        raise SettingsError(f"{table.path} has no column {column}; there are: {', '.join(table.columns)}")
    if table.columns.count(column) > 1:
        raise DataError(f"{table.path} has several columns {column}; rename all but one")


def value_of(table: Table, case: Case, column: str, missing: Iterable[str] = MISSING) -> str:
    """Return the value of a case: from the row of its session if rows have sessions, otherwise from that of its subject.

    Subjects may be written with or without `sub-`, and as plain numbers as in IXI.

    Returns
    -------
    str
        The value; one of the missing values if the table doesn't have the case.

    Raises
    ------
    DataError
        If rows disagree.
    """
    rows = _rows_of(table, case)
    values: dict[str, int] = {}
    for row in rows:
        values.setdefault(row.cells[column], row.line)
    known = {value: line for value, line in values.items() if value.casefold() not in set(missing)}
    if len(known) > 1:
        listed = ", ".join(f"{value} (line {line})" for value, line in known.items())
        advice = "correct it"
        if not any(name in table.columns for name in _SESSION_COLUMNS):
            advice += ", or tell its rows apart by a column session_id"
        elif not case.session:
            advice = "the case's session is unknown: t1_bids reads it from BIDS names"
        raise DataError(f"{table.path} has several values of {column} for {case.name}: {listed}; {advice}")
    return next(iter(known or values), "")


def _rows_of(table: Table, case: Case) -> list[Row]:
    plain = ACCESSION.sub("", case.subject, count=1).lstrip("_")
    short = plain.removeprefix("sub-")
    number = short.removeprefix("IXI")
    names = dict.fromkeys([plain, short, f"sub-{short}", number, number.lstrip("0") or "0"])
    # a subject that is spelt in two ways has rows under both
    rows = [row for name in names for row in table.rows.get(name, ())]
    column = next((name for name in _SESSION_COLUMNS if name in table.columns), "")
    if not (column and case.session):
        return rows
    same = [row for row in rows if plain_session(row.cells[column]) == plain_session(case.session)]
    # a row without a session applies to all sessions
    return same or [row for row in rows if row.cells[column].casefold() in MISSING]


def plain_session(text: str) -> str:
    """Return a session's label without `ses-` and leading zeros, for comparison."""
    label = text.casefold().removeprefix("ses-")
    return str(int(label)) if label.isascii() and label.isdigit() else label


def _binning(text: str) -> Callable[[str], str]:
    """Return the function that maps a value to a class name."""
    if not text:
        return str
    try:
        bounds = [float(bound) for bound in text.split(",")]
    except ValueError:
        raise SettingsError(f"--option bins={text}: give numbers such as bins=40,60") from None
    if bounds != sorted(set(bounds)) or not all(map(math.isfinite, bounds)):
        raise SettingsError(f"--option bins={text}: the bounds must increase and be finite")
    names = [f"below {bounds[0]:g}"]
    names += [f"{low:g} to {high:g}" for low, high in itertools.pairwise(bounds)]
    names.append(f"{bounds[-1]:g} and above")
    if len(set(names)) < len(names):
        raise SettingsError(f"--option bins={text}: the bounds lie too close to tell the classes apart")

    def to_class(value: str) -> str:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise DataError(f"{value} is not a number, so --option bins can't be used; correct the table")
        return names[bisect.bisect_right(bounds, number)]

    return to_class


def class_counts(cases: Iterable[Case]) -> tuple[Counter[str], list[str]]:
    """Return class -> number of cases, and a line for each group of classes that differ only in case or blanks."""
    counts = Counter(case.class_name for case in cases if case.class_name)
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        alike["".join(name.casefold().split())].append(name)
    return counts, [
        f"classes {' and '.join(names)} differ in capitals or blanks alone: are they one?"
        for names in alike.values()
        if len(names) > 1
    ]
