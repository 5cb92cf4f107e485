"""Classes of cases from a table of the participants."""

from __future__ import annotations

import bisect
import csv
import itertools
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from nnunet_transfer.conversion.description import Case, Request
from nnunet_transfer.errors import DataError, SettingsError

log = logging.getLogger(__name__)

#: an OpenNeuro accession, which OpenMind's folders are named by; subjects of two of them aren't the same
ACCESSION = re.compile(r"ds\d{6}")

#: how tables name the column of the subject
_SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "IXI_ID", "ID", "id")

_NO_VALUE = ("", "n/a", "nan", "NaN", "NA", "None")

CLASS_OPTIONS = {
    "class": "column of the table that holds the class, such as sex, diagnosis or age",
    "bins": "bounds that make classes of numbers: bins=40,60 gives below 40, 40 to 60, 60 and above",
    "table": "file with one row per participant (.tsv or .csv); default: participants.tsv beside the subjects",
    "missing": "leave-out: cases whose class is unknown are left out, otherwise they are an error",
}

_Rows = Mapping[str, Mapping[str, str]]


def with_classes(request: Request, cases: list[Case]) -> Iterator[Case]:
    """Add each case's class from its table; without `--option class` there are none."""
    column = request.options.get("class", "")
    if not column:
        if unused := {"bins", "table", "missing"} & request.options.keys():
            raise SettingsError(f"--option {sorted(unused)[0]} needs --option class=COLUMN")
        yield from cases
        return
    if request.options.get("missing", "leave-out") != "leave-out":
        raise SettingsError("--option missing can only be leave-out")
    to_class = _binning(request.options.get("bins", ""))
    tables: dict[Path, _Rows] = {}
    unknown = []
    for case in cases:
        table = _table_of(request, case)
        if table not in tables:
            tables[table] = _read_table(table, column)
        value = _value(tables[table], case, column)
        if value in _NO_VALUE:
            unknown.append(case.name)
        else:
            yield replace(case, class_name=to_class(value), notes=(*case.notes, f"{column}: {value}"))
    if unknown:
        told = f"{column} of {len(unknown)} cases is unknown, such as {', '.join(unknown[:3])}"
        if "missing" not in request.options:
            raise DataError(f"{told}; complete the table or leave them out with --option missing=leave-out")
        log.warning("%s; they are left out", told)


def _table_of(request: Request, case: Case) -> Path:
    """Return the table given, else the nearest participants.tsv above the case's image."""
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


def _read_table(path: Path, column: str) -> _Rows:
    """Return subject or subject_session -> row."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="," if path.suffix.lower() == ".csv" else "\t")
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a table ({error})") from None
    subject = next((name for name in _SUBJECT_COLUMNS if name in columns), "")
    if not subject:
        raise DataError(
            f"{path} has no column with the subject; name it participant_id (columns: {', '.join(columns)})"
        )
    if column not in columns:
        raise SettingsError(f"{path} has no column {column}; there are: {', '.join(columns)}")
    return {"_".join(filter(None, (row[subject], row.get("session_id") or ""))): row for row in rows}


def _value(rows: _Rows, case: Case, column: str) -> str:
    """Return the class's raw value; tables write subjects with and without `sub-`, and IXI's as plain numbers."""
    plain = ACCESSION.sub("", case.subject, count=1).lstrip("_")
    short = plain.removeprefix("sub-")
    names = [plain, short, short.removeprefix("IXI"), short.removeprefix("IXI").lstrip("0")]
    sessions = (case.session, case.session.removeprefix("ses-"))
    for key in [f"{name}_{session}" for name in names for session in sessions if session] + names:
        if key in rows:
            return (rows[key][column] or "").strip()
    return ""


def _binning(text: str) -> Callable[[str], str]:
    """Return what makes a class name of a value."""
    if not text:
        return str
    try:
        bounds = [float(bound) for bound in text.split(",")]
    except ValueError:
        raise SettingsError(f"--option bins={text}: give numbers such as bins=40,60") from None
    if bounds != sorted(set(bounds)):
        raise SettingsError(f"--option bins={text}: the bounds must rise")
    names = [f"below {bounds[0]:g}"]
    names += [f"{low:g} to {high:g}" for low, high in itertools.pairwise(bounds)]
    names.append(f"{bounds[-1]:g} and above")

    def to_class(value: str) -> str:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise DataError(f"{value} is no number, so --option bins can't be used; correct the table")
        return names[bisect.bisect_right(bounds, number)]

    return to_class
