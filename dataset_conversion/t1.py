"""T1 brain MRI without masks, to pre-train on; classes come from a table of the participants."""

from __future__ import annotations

import bisect
import csv
import itertools
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from nnunet_transfer.conversion.case_search import case_name
from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription, Request
from nnunet_transfer.conversion.patterns import list_tree, summarise_tree
from nnunet_transfer.errors import DataError, SettingsError

log = logging.getLogger(__name__)

_ENDING = re.compile(r"\.(nii(\.gz)?|mgz|mgh)$")
#: BIDS: entities of an image; OASIS-3 and OpenMind name files so, whatever their folders are called
_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?((?:_[a-z]+-[A-Za-z0-9]+)*)_T1w")
#: IXI: number, hospital (Guys, HH, IOP), scan
_IXI = re.compile(r"(IXI\d+)-([A-Za-z]+)-\d+-T1")
#: an OpenNeuro accession, which OpenMind's folders are named by; subjects of two of them aren't the same
_ACCESSION = re.compile(r"ds\d{6}")
#: how tables name the column of the subject
_SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "IXI_ID", "ID", "id")
_NO_VALUE = ("", "n/a", "nan", "NaN", "NA", "None")
_CLASS_OPTIONS = {
    "class": "column of the table that holds the class, such as sex, diagnosis or age",
    "bins": "bounds that make classes of numbers: bins=40,60 gives below 40, 40 to 60, 60 and above",
    "table": "file with one row per participant (.tsv or .csv); default: participants.tsv beside the subjects",
    "missing": "leave-out: cases whose class is unknown are left out, otherwise they are an error",
}

_Rows = Mapping[str, Mapping[str, str]]


def _find_bids(request: Request) -> Iterator[Case]:
    tree = list_tree(request.root)
    cases = [case for path in tree if (case := _bids_case(request.root, path))]
    if not cases:
        raise DataError(
            f"{request.root} holds no T1 image with a BIDS name: looked for sub-*[_ses-*]_T1w.nii.gz and IXI*-T1.nii.gz; "
            f"found {len(tree)} files such as {summarise_tree(tree)}; for other names take t1_folder"
        )
    yield from _with_classes(request, cases)


def _bids_case(root: Path, path: str) -> Case | None:
    *folders, file = path.split("/")
    ending = _ENDING.search(file)
    if not ending or "derivatives" in folders:
        return None
    stem = file[: ending.start()]
    if match := _BIDS.fullmatch(stem):
        subject, session, others = match[1], match[2] or "", match[3]
        # of one tree with many data sets, each has its own sub-01
        site = next((folder for folder in folders if _ACCESSION.fullmatch(folder)), "")
        name = case_name(site, subject, session, others.strip("_"))
    elif match := _IXI.fullmatch(stem):
        subject, site, session = match[1], match[2], ""
        name = case_name(subject, site)
    else:
        return None
    whole = case_name(site if _ACCESSION.fullmatch(site) else "", subject)
    return Case(name, {"T1": root / path}, subject=whole, session=session, site=site)


def _find_folder(request: Request) -> Iterator[Case]:
    tree = list_tree(request.root)
    wanted = request.options.get("name", "*")
    volumes = [path for path in tree if _ENDING.search(path) and fnmatch(path.split("/")[-1], wanted)]
    if not volumes:
        raise DataError(
            f"{request.root} holds no volume named {wanted} (.nii, .nii.gz, .mgz); "
            f"found {len(tree)} files such as {summarise_tree(tree)}"
        )
    subject_of = _subject_rule(request.options.get("subject", ""))
    cases = []
    for path in volumes:
        stem = _ENDING.sub("", path)
        name = case_name(*stem.split("/"))
        cases.append(Case(name, {"T1": request.root / path}, subject=case_name(subject_of(stem) or name)))
    yield from _with_classes(request, cases)


def _subject_rule(text: str) -> Callable[[str], str]:
    """Return what finds a subject in a path without ending."""
    try:
        rule = re.compile(text or r"(sub-[A-Za-z0-9]+|IXI\d+|OAS\d+(?:_\d{4})?)")
    except re.error as error:
        raise SettingsError(f"--option subject={text} is no regular expression ({error})") from None

    def find(path: str) -> str:
        match = rule.search(path)
        if text and not match:
            raise DataError(f"no subject matches {text} in {path}; correct --option subject")
        return (match[1] if rule.groups else match[0]) if match else ""

    return find


def _with_classes(request: Request, cases: list[Case]) -> Iterator[Case]:
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
    plain = _ACCESSION.sub("", case.subject, count=1).lstrip("_")
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


T1_BIDS = DatasetDescription(
    name="t1_bids",
    title="T1 images of a BIDS-like tree, such as OASIS-3, OpenMind or IXI, without masks",
    folder_name="T1",
    licence="that of the data set",
    citation="of BIDS: Gorgolewski KJ et al., Scientific Data 2016;3:160044, doi 10.1038/sdata.2016.44",
    request="https://brain-development.org/ixi-dataset, https://sites.wustl.edu/oasisbrains, "
    "https://huggingface.co/datasets/AnonRes/OpenMind",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_bids,
    known_options=_CLASS_OPTIONS,
)

T1_FOLDER = DatasetDescription(
    name="t1_folder",
    title="All T1 volumes below a folder, whatever their names, without masks",
    folder_name="T1",
    licence="that of the data set",
    citation="that of the data set",
    request="your own",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_folder,
    known_options=_CLASS_OPTIONS
    | {
        "name": "which files, such as name=*T1*.nii.gz",
        "subject": "regular expression whose first group is the subject within the path",
    },
)
