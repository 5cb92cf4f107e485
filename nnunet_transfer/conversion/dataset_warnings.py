"""Warnings about a converted data set as a whole."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from nnunet_transfer.conversion.record import Record
from nnunet_transfer.words import counted

_LISTED = 5


def dataset_warnings(records: Sequence[Record]) -> list[str]:
    """Return warnings about duplicates and mixed orientations, and a count of each warning about single cases."""
    return [*_duplicates(records), *_orientations(records), *_warnings(records)]


def _duplicates(records: Sequence[Record]) -> list[str]:
    by_content: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_content[record.content].append(record)
    return [
        f"the same image under {len(same)} names: {_listing([record.case for record in same])}; {_where(same)}"
        for same in by_content.values()
        if len(same) > 1
    ]


def _where(same: Sequence[Record]) -> str:
    """Return where cases with the same image are."""
    splits = {record.split for record in same}
    if len(splits) > 1:
        return "some for training, others for testing"
    return "kept in one fold" if splits == {"train"} else "all for testing"


def _orientations(records: Sequence[Record]) -> list[str]:
    found = Counter(record.written_orientation for record in records if record.written_orientation)
    if len(found) < 2:
        return []
    counts = ", ".join(f"{name} {count}" for name, count in found.most_common())
    return [f"mixed orientations ({counts}): nnU-Net does not align them; --reorient does"]


def _warnings(records: Sequence[Record]) -> list[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for warning in record.warnings:
            # drop the file name and the leading count, so that equal warnings of many cases are merged
            kind = re.sub(r"^\d+ (of \d+ )?", "", warning.split(": ", 1)[-1])
            if record.case not in found[kind]:
                found[kind].append(record.case)
    return [f"{kind} in {counted(len(cases), 'case')}: {_listing(cases)}" for kind, cases in found.items()]


def _listing(cases: Sequence[str]) -> str:
    return ", ".join(cases[:_LISTED]) + (" ..." if len(cases) > _LISTED else "")
