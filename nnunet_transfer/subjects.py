"""Which subject and site a case comes from."""

from __future__ import annotations

import csv
import os
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BIDS_SUBJECT = re.compile(r"(?:^|_)(sub-[A-Za-z0-9]+)")
BIDS_SITE = re.compile(r"(?:^|_)site-([A-Za-z0-9]+)")


@dataclass(frozen=True)
class Origin:
    """Where cases come from.

    Attributes
    ----------
    subject, site : case -> name; site is empty where unknown
    statement : one sentence for the report on how subjects were told apart
    """

    subject: dict[str, str]
    site: dict[str, str]
    statement: str


def find_origin(cases: Iterable[str], raw_dataset: Path | None) -> Origin:
    """Find subject and site of each case.

    The conversion's manifest decides (`conversion_manifest.csv` with columns case and subject, and perhaps site); else
    the BIDS entity `sub-` in the case's name; else each case is its own subject.
    """
    cases = list(cases)
    rows = _read_manifest(raw_dataset / "conversion_manifest.csv") if raw_dataset else {}
    if rows and all(rows.get(c, {}).get("subject") for c in cases):
        subject = {c: rows[c]["subject"] for c in cases}
        site = {c: rows[c].get("site") or "" for c in cases}
        return Origin(subject, site, "Subjects were read from the data set's conversion manifest.")
    found = {c: BIDS_SUBJECT.search(c) for c in cases}
    site = {c: m[1] if (m := BIDS_SITE.search(c)) else "" for c in cases}
    if all(found.values()):
        return Origin(
            {c: m[1] for c, m in found.items() if m}, site, "Subjects were read from the case names (BIDS entity sub-)."
        )
    return Origin(
        {c: c for c in cases},
        site,
        "Nothing says which cases share a subject: each case counts as a subject of its own.",
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
    with open(path, newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream) if row.get("case")}
