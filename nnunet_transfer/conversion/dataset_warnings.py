"""Warnings about a converted data set as a whole."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from nnunet_transfer.conversion.record import Record
from nnunet_transfer.words import counted

_LISTED = 5
_NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]\d+)?")


def dataset_warnings(records: Sequence[Record]) -> list[str]:
    """Return warnings about labels, duplicates and mixed orientations, and a count of each warning about single cases."""
    return [*_unlabelled(records), *_duplicates(records), *_orientations(records), *_warnings(records)]


def _unlabelled(records: Sequence[Record]) -> list[str]:
    """Return a line if nnU-Net can't plan, which it does from the intensities of labelled voxels."""
    training = [record for record in records if record.split == "train"]
    if any(not record.written_values or any(record.written_values) for record in training):
        return []
    return ["no case for training has a labelled voxel, without which nnU-Net can't plan"]


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
    """Return a line for each kind of warning, whatever its numbers."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for warning in record.warnings:
            # drop the file name and the leading count
            text = re.sub(r"^\d+ (of \d+ )?", "", warning.split(": ", 1)[-1])
            cases = found[_NUMBER.sub("#", text)][text]
            if record.case not in cases:
                cases.append(record.case)
    return [_line(by_text) for by_text in found.values()]


def _line(by_text: Mapping[str, Sequence[str]]) -> str:
    cases = list(dict.fromkeys(case for same in by_text.values() for case in same))
    numbers = " (the numbers are the first one's)" if len(by_text) > 1 else ""
    return f"{next(iter(by_text))} in {counted(len(cases), 'case')}{numbers}: {_listing(cases)}"


def _listing(cases: Sequence[str]) -> str:
    return ", ".join(cases[:_LISTED]) + (" ..." if len(cases) > _LISTED else "")
