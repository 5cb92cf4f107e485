"""Data sets that share subjects: a source trained on one of them has seen part of another. No torch.

The test on overlapping data sets is by name; it can only warn. Whether cases really coincide is for the user to check.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_transfer.paths import DATASET_FOLDER


@dataclass(frozen=True)
class Overlap:
    """A group of data sets with common subjects.

    Attributes
    ----------
    members : regular expression for the data sets' names, in lower case without punctuation
    reason : what they share
    hub : the collection that contains all others, which share nothing among themselves
    """

    members: re.Pattern[str]
    reason: str
    hub: re.Pattern[str] | None = None

    def joins(self, *names: str) -> bool:
        """Whether these data sets overlap by this group."""
        inside = all(self.members.search(name) for name in names)
        return inside and (self.hub is None or any(self.hub.search(name) for name in names))


def _overlap(members: str, reason: str, hub: str | None = None) -> Overlap:
    return Overlap(re.compile(members), reason, re.compile(hub) if hub else None)


#: collections made of others, and data sets with the same people in them
OVERLAPS: tuple[Overlap, ...] = (
    _overlap(
        r"openmind|openneuro|fomo|soop|ds004889|(?<!multi)atlas(r3|v3|30?$)",
        "OpenMind, FOMO and ATLAS R3.0 draw on OpenNeuro, which holds SOOP (ds004889)",
    ),
    _overlap(
        r"oasis(?![23])|mindboggle|miccai2012|multiatlas|malf",
        "neurite-oasis, Mindboggle's OASIS-TRT and the MICCAI 2012 multi-atlas data are OASIS-1 subjects",
    ),
    _overlap(
        r"shifts|msseg(?!08)|isbi(2015|ms)?|ljubljana|openms",
        "Shifts-MS is built in part from MSSEG, ISBI 2015 and the Ljubljana data",
    ),
    _overlap(
        r"(?<!multi)atlas|brainsegfounder", "later releases of ATLAS contain the earlier ones, with new identifiers"
    ),
    _overlap(
        r"multitalent|(?<!multi)atlas|msseg|isbi(2015|ms)?|mslesion|wmh|brats",
        "MultiTalent was trained on 65 public data sets; check its list",
        hub="multitalent",
    ),
)


def overlap_warnings(trained_on: Sequence[str], target: str) -> tuple[str, ...]:
    """Return a warning for each training data set of a source that may share subjects with the target."""
    warnings = []
    for name in trained_on:
        if _plain(name) == _plain(target):
            warnings.append(f"the source was trained on the target's data set {name}; check that no test case was seen")
            continue
        for overlap in OVERLAPS:
            if overlap.joins(_plain(name), _plain(target)):
                warnings.append(f"the source's data set {name} may share subjects with {target}: {overlap.reason}")
                break
    return tuple(warnings)


def _plain(name: str) -> str:
    match = DATASET_FOLDER.fullmatch(name)
    return re.sub(r"[^a-z0-9]", "", (match[2] if match else name).lower())
