"""The subject and site of a case."""

from __future__ import annotations

import os
import random
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError
from nnunet_transfer.tables import read_rows, write_csv
from nnunet_transfer.words import counted, shortened, verb

#: BIDS entities that follow the subject; from the first of them on, a name doesn't identify the person
_ENTITIES = (
    "ses|sample|task|tracksys|acq|ce|trc|stain|rec|dir|run|mod|echo|flip|inv|mt|part|proc|hemi|space|split|recording|chunk|"
    "seg|res|den|label|desc|from|to|mode|atlas|roi|cohort|site|tpl"
)
#: suffixes that describe the image
_SUFFIXES = "T1w?|T2w?|T2starw?|FLAIR|PDw?|PDT2|inplaneT[12]|UNIT1|angio|dwi|bold|mask|dseg|probseg|lesions?"
#: a time point like T1 to T4 of MSLesSeg, after a subject's number: without one, and in longer numbers, T may name the subject
_TIME_POINT = "(?<=[0-9])_T[0-9]{1,2}w?(?=\\.|$)"
_AFTER_SUBJECT = re.compile(
    rf"[_.](?:(?:{_ENTITIES})-[^_.]|long\.)|_(?:{_SUFFIXES})(?=\.|$)|{_TIME_POINT}", re.IGNORECASE
)
#: between time point and template in a name of FreeSurfer's longitudinal stream
_LONGITUDINAL = ".long."
_SITE = re.compile(r"(?:^|_)site-([A-Za-z0-9]+)")
#: table of a data set's cases with the columns case and subject, and optionally site
MANIFEST = "conversion_manifest.csv"
#: number of scans per subject from which the report asks whether they belong to one person
MANY_SCANS = 5


def subject_of(name: str) -> str:
    """Return the subject that a case, file or folder belongs to, by its name.

    The subject is the part of the name before the first BIDS entity that follows a subject (`_ses-`, `_run-`, `_acq-`, ...) or
    before a suffix for the contrast or the time point (`_T1`, `_T2`, ...). It may contain any characters: `sub-01_ses-2` belongs
    to `sub-01`, `sub-CC-0001` to `sub-CC-0001`, `sub-control_002` to `sub-control_002`, `P-017` to `P-017`, and `P1_T3` to
    `P1`. Other parts of a name may number subjects or scans; they are kept, so that such a case counts as a separate subject.
    """
    found = _AFTER_SUBJECT.search(name)
    # an entity before the subject, as in site-A_sub-01, is part of its name
    start = name.find("sub-")
    while found and found.start() < start:
        found = _AFTER_SUBJECT.search(name, found.end())
    return name[: found.start()] if found and found.start() else name


def subjects_of(names: Iterable[str]) -> dict[str, str]:
    """Return name -> subject for all names of a data set, each as `subject_of` returns it.

    Names of FreeSurfer's longitudinal stream also say which others are of the same person: `A.long.P` is time point `A`,
    processed with `P`, the template of all time points; so `A`, `P` and `A.long.P` are of one subject, `P`.
    """
    parts = {name: name.partition(_LONGITUDINAL) for name in names}
    subject = {name: subject_of(time_point) for name, (time_point, _, _) in parts.items()}
    merged: dict[str, str] = {}
    for name in sorted(parts):
        if template := parts[name][2]:
            merge(merged, subject[name], subject_of(template))
    return {name: merged_name(merged, found) for name, found in subject.items()}


def merge(merged: dict[str, str], name: str, other: str) -> None:
    """Make the groups of two names one; `merged` is name -> another name of its group."""
    if (a := merged_name(merged, name)) != (b := merged_name(merged, other)):
        merged[a] = b


def merged_name(merged: Mapping[str, str], name: str) -> str:
    """Return the name that stands for a name's group."""
    while name in merged:
        name = merged[name]
    return name


@dataclass(frozen=True)
class Origin:
    """Subjects and sites of cases.

    Attributes
    ----------
    subject, site : case -> name; site is empty if unknown
    how : how subjects were identified, the beginning of a sentence
    """

    subject: dict[str, str]
    site: dict[str, str]
    how: str

    @property
    def statement(self) -> str:
        """Sentence for the report on how subjects were identified, with an example."""
        counts = Counter(self.subject.values())
        example = max(self.subject, key=lambda case: counts[self.subject[case]], default="")
        found = f"{self.how}: {counted(len(counts), 'subject')} in {counted(len(self.subject), 'case')}"
        return (
            f"{found}; for example, case {example} belongs to subject {self.subject[example]}."
            if example
            else f"{found}."
        )

    @property
    def warning(self) -> str:
        """Warning for the report on doubtful subjects; empty if there is none."""
        return _doubt(Counter(self.subject.values()))

    def of(self, cases: Iterable[str]) -> Origin:
        """Return the subjects and sites of some of the cases."""
        cases = list(cases)
        return Origin({c: self.subject[c] for c in cases}, {c: self.site[c] for c in cases}, self.how)


def find_origin(cases: Iterable[str], folder: Path | None) -> Origin:
    """Find subject and site of each case.

    They come from the conversion manifest in `folder` or, without a manifest, from the names of the cases, see `subject_of`.

    Parameters
    ----------
    folder : from `manifest_folder`
    """
    cases = list(cases)
    rows = read_manifest(folder) if folder else {}
    if rows and all(rows.get(c, {}).get("subject") for c in cases):
        subject = {c: rows[c]["subject"] for c in cases}
        site = {c: rows[c].get("site") or "" for c in cases}
        how = "Subjects were read from the data set's conversion manifest"
    else:
        unnamed = sorted(c for c in cases if not rows.get(c, {}).get("subject"))
        subject = subjects_of(cases)
        site = {c: m[1] if (m := _SITE.search(c)) else "" for c in cases}
        how = "Subjects were read from the case names"
        if all(c == name and "sub-" not in c for c, name in subject.items()):
            how = "The case names don't identify subjects, so each case counts as a separate subject"
        if folder is None or not folder.is_dir():
            how += " (nnUNet_raw lacks the data set, whose conversion manifest might name them)"
        if rows:
            how = f"The conversion manifest names no subject of {shortened(unnamed, 5)}. {how}"
    return Origin(subject, site, how)


def _doubt(counts: Counter[str]) -> str:
    """Return a warning if some subjects have very many cases, which may be several people under one name."""
    if not counts:
        return ""
    usual = statistics.median(counts.values())
    many = [
        name for name, n in counts.most_common() if n >= MANY_SCANS and (n >= MANY_SCANS * usual or usual >= MANY_SCANS)
    ]
    if not many:
        return ""
    listed = ", ".join(f"{name} {counts[name]}" for name in many[:5]) + (", ..." if len(many) > 5 else "")
    return (
        f"Doubtful: {len(many)} of {counted(len(counts), 'subject')} {verb(len(many), 'has', 'have')} very many cases "
        f"({listed}). If these are different people, add "
        "a conversion_manifest.csv with the columns case and subject to the data set: every interval and test depends on "
        "the number of subjects."
    )


#: key of dataset.json with {case: donor}, if images contain lesions from other people's masks
DONORS = "lesion_donors"
#: key of dataset.json with the names of the data sets that images or label maps come from
MADE_FROM = "made_from"


def donor_key(name: str) -> str:
    """Return the name of a donor for comparison, without punctuation, case and leading zeros of numbers."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def donors_in(dataset_json: Mapping[str, Any]) -> dict[str, str]:
    """Return case -> donor of the lesion pasted into it, for all cases of a data set that have one."""
    stated = dataset_json.get(DONORS)
    return {str(case): str(donor) for case, donor in stated.items()} if isinstance(stated, Mapping) else {}


#: the names in a warning of `nnunet_transfer.sources.leakage.donor_warnings`
_NAMED_DONORS = re.compile(r"( lesion donors are in .*, too) \(.*\)(; make the source's data)", re.DOTALL)


def without_donor_names(warning: str) -> str:
    """Return a warning on shared donors with their number, but without their names, and any other one unchanged."""
    return _NAMED_DONORS.sub(r"\1\2", warning)


def manifest_folder(dataset: str) -> Path | None:
    """Return the folder of a data set whose conversion manifest counts, whether or not there is one; None if it is unknown.

    This is the raw data set. Without it, it is the preprocessed one if a copy of the manifest lies there, as `plan` writes it.
    """
    raw, preprocessed = (_dataset_in(variable, dataset) for variable in ("nnUNet_raw", "nnUNet_preprocessed"))
    copied = preprocessed is not None and (preprocessed / MANIFEST).is_file()
    return preprocessed if copied and not (raw and raw.is_dir()) else raw


def _dataset_in(variable: str, dataset: str) -> Path | None:
    root = os.environ.get(variable)
    return Path(root) / dataset if root else None


def copy_subjects(raw: Path, preprocessed: Path) -> None:
    """Write case, subject and site of a raw data set's manifest beside the preprocessed data; without a manifest, no cases."""
    columns = ("case", "subject", "site")
    rows = read_manifest(raw).values()
    write_csv(preprocessed / MANIFEST, columns, ([row.get(column, "") for column in columns] for row in rows))


def ordered_by_subject(cases: Iterable[str], folder: Path | None, seed: int) -> list[str]:
    """Return the cases in a random order of subjects, each subject's cases together; `folder` is from `manifest_folder`."""
    cases = sorted(cases)
    subject = find_origin(cases, folder).subject
    subjects = sorted(set(subject.values()))
    random.Random(seed).shuffle(subjects)
    rank = {name: i for i, name in enumerate(subjects)}
    return sorted(cases, key=lambda case: (rank[subject[case]], case))


def read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    """Return case -> column -> cell of a folder's conversion manifest; empty if there is none.

    Raises
    ------
    DataError
        If it lacks a column or has a case twice, of different subjects.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        (_, columns), *rows = read_rows(path)
    except DataError as error:
        raise DataError(f"{path} is not a table with the columns case and subject ({error})") from None
    if not {"case", "subject"} <= set(columns):
        listed = ", ".join(filter(None, columns)) or "none"
        raise DataError(
            f"{path} is not a table with the columns case and subject (its columns are {listed}); restore or remove it"
        )
    found: dict[str, dict[str, str]] = {}
    for _, cells in rows:
        row = {"subject": "", **dict(zip(columns, cells, strict=False))}
        if not (case := row.get("case")):
            continue
        if (twin := found.setdefault(case, row)["subject"]) != row["subject"]:
            raise DataError(f"{path} has case {case} twice, of subjects {twin} and {row['subject']}; correct it")
    return found
