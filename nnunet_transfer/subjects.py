"""Which subject and site a case comes from."""

from __future__ import annotations

import csv
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
from nnunet_transfer.words import counted, verb

#: entities of BIDS that come after the subject: from the first of them on, a name says nothing more about who it is
_ENTITIES = (
    "ses|sample|task|tracksys|acq|ce|trc|stain|rec|dir|run|mod|echo|flip|inv|mt|part|proc|hemi|space|split|recording|chunk|"
    "seg|res|den|label|desc|from|to|mode|atlas|roi|cohort|site|tpl"
)
#: words at the end of a name that say what the image shows
_SUFFIXES = "T1w?|T2w?|T2starw?|FLAIR|PDw?|PDT2|inplaneT[12]|UNIT1|angio|dwi|bold|mask|dseg|probseg|lesions?"
_AFTER_SUBJECT = re.compile(rf"[_.](?:(?:{_ENTITIES})-[^_.]|long\.)|_(?:{_SUFFIXES})(?=\.|$)", re.IGNORECASE)
_SITE = re.compile(r"(?:^|_)site-([A-Za-z0-9]+)")
#: scans of one subject from which on the report asks whether they are really of one
MANY_SCANS = 5


def subject_of(name: str) -> str:
    """Return the subject that a case, file or folder belongs to, by its name.

    The subject is all that stands before the first entity that BIDS puts after it (`_ses-`, `_run-`, `_acq-`, ...) or before
    a word for the image's contrast, whatever characters it is made of: `sub-01_ses-2` is of `sub-01`, `sub-CC-0001` of
    `sub-CC-0001`, `sub-control_002` of `sub-control_002`, `P-017` of `P-017`. Parts of a name without such an entity may
    number subjects or scans: they are kept, and so such a case is a subject of its own.
    """
    found = _AFTER_SUBJECT.search(name)
    # an entity in front of the subject, as in site-A_sub-01, is a part of its name
    start = name.find("sub-")
    while found and found.start() < start:
        found = _AFTER_SUBJECT.search(name, found.end())
    return name[: found.start()] if found and found.start() else name


@dataclass(frozen=True)
class Origin:
    """Where cases come from.

    Attributes
    ----------
    subject, site : case -> name; site is empty where unknown
    statement : for the report: how subjects were told apart, with an example
    warning : for the report: what makes the subjects doubtful; empty if nothing does
    """

    subject: dict[str, str]
    site: dict[str, str]
    statement: str
    warning: str = ""


def find_origin(cases: Iterable[str], raw_dataset: Path | None) -> Origin:
    """Find subject and site of each case.

    The conversion's manifest decides (`conversion_manifest.csv` with columns case and subject, and perhaps site); else
    the case's name, see `subject_of`.
    """
    cases = list(cases)
    rows = _read_manifest(raw_dataset / "conversion_manifest.csv") if raw_dataset else {}
    if rows and all(rows.get(c, {}).get("subject") for c in cases):
        subject = {c: rows[c]["subject"] for c in cases}
        site = {c: rows[c].get("site") or "" for c in cases}
        how = "Subjects were read from the data set's conversion manifest"
    else:
        subject = {c: subject_of(c) for c in cases}
        site = {c: m[1] if (m := _SITE.search(c)) else "" for c in cases}
        how = "Subjects were read from the case names"
        if all(c == name and "sub-" not in c for c, name in subject.items()):
            how = "The case names don't identify subjects, so each case counts as a separate subject"
    counts = Counter(subject.values())
    example = max(cases, key=lambda c: counts[subject[c]], default="")
    statement = f"{how}: {counted(len(counts), 'subject')} in {counted(len(cases), 'case')}"
    statement += f"; for example, case {example} belongs to subject {subject[example]}." if example else "."
    return Origin(subject, site, statement, _doubt(counts))


def _doubt(counts: Counter[str]) -> str:
    """Return a warning where few subjects have very many cases, which may be several people under one name."""
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


#: key of dataset.json, {case: donor}, where images hold lesion masks of other people
DONORS = "lesion_donors"
#: key of dataset.json, the names of the data sets that images or label maps were taken from
MADE_FROM = "made_from"


def donor_key(name: str) -> str:
    """Return what donors are compared by: the name without punctuation, capitals and leading zeros of numbers."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def donors_in(dataset_json: Mapping[str, Any]) -> dict[str, str]:
    """Return case -> donor of the lesion pasted into it, for all cases of a data set that have one."""
    stated = dataset_json.get(DONORS)
    return {str(case): str(donor) for case, donor in stated.items()} if isinstance(stated, Mapping) else {}


def raw_dataset(dataset: str) -> Path | None:
    """Return a data set's folder in `nnUNet_raw`, None where the variable is not set."""
    raw = os.environ.get("nnUNet_raw")
    return Path(raw) / dataset if raw else None


def ordered_by_subject(cases: Iterable[str], raw_dataset: Path | None, seed: int) -> list[str]:
    """Return the cases in a random order of subjects, each subject's cases together."""
    cases = sorted(cases)
    subject = find_origin(cases, raw_dataset).subject
    subjects = sorted(set(subject.values()))
    random.Random(seed).shuffle(subjects)
    rank = {name: i for i, name in enumerate(subjects)}
    return sorted(cases, key=lambda case: (rank[subject[case]], case))


def _read_manifest(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return {row["case"]: row for row in csv.DictReader(stream) if row.get("case")}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} is not a table with the columns case and subject ({error}); restore or remove it"
        ) from None
