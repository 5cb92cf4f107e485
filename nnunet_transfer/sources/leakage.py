"""Data sets that share subjects: a source trained on one of them has seen part of another. No torch.

Overlapping data sets are found by name, so the result is only a warning. The user must check whether cases coincide.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_transfer.files import read_json
from nnunet_transfer.paths import DATASET_FOLDER
from nnunet_transfer.sources.card import SourceCard
from nnunet_transfer.subjects import DONORS, donor_key, donors_in


@dataclass(frozen=True)
class Overlap:
    """A group of data sets with common subjects.

    Attributes
    ----------
    members : regular expression for the names of the data sets, their letters and digits in lower case
    reason : what they share
    hub : the collection that contains all other members, which don't overlap with each other
    """

    members: re.Pattern[str]
    reason: str
    hub: re.Pattern[str] | None = None

    def joins(self, *names: str) -> bool:
        """Whether these data sets overlap according to this group."""
        inside = all(self.members.search(name) for name in names)
        return inside and (self.hub is None or any(self.hub.search(name) for name in names))


def _overlap(members: str, reason: str, hub: str | None = None) -> Overlap:
    return Overlap(re.compile(members), reason, re.compile(hub) if hub else None)


#: the stroke data set; other data sets are called atlases of something
_ATLAS = r"(?<!multi)(?<!abdomen)atlas"
#: collections of other data sets, and data sets with the same people
OVERLAPS: tuple[Overlap, ...] = (
    _overlap(
        rf"openmind|openneuro|fomo|soop|ds004889|{_ATLAS}(r3|v3|30?$)",
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
        rf"{_ATLAS}|brainsegfounder|synthstroke",
        "later releases of ATLAS contain the earlier ones, with new identifiers; SynthStroke's and BrainSegFounder's are of it",
    ),
    _overlap(
        rf"multitalent|{_ATLAS}|msseg|isbi(2015|ms)?|mslesion|wmh|brats",
        "MultiTalent was trained on 65 public data sets; check its list",
        hub="multitalent",
    ),
)


_FOLDERS = ("nnUNet_preprocessed", "nnUNet_raw")


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


def donor_warnings(donors: Iterable[str], target: str, target_donors: Iterable[str] = ()) -> tuple[str, ...]:
    """Return warnings if lesions pasted into a source's images come from people in the target.

    Parameters
    ----------
    donors : donors of the source's lesions
    target : name of the target's data set
    target_donors : donors of lesions pasted into the target's images
    """
    donors = sorted(set(donors))
    theirs = {donor_key(name) for name in target_donors}
    shared = [name for name in donors if donor_key(name) in theirs]
    warnings = []
    if shared:
        named = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
        warnings.append(
            f"{len(shared)} of the source's {len(donors)} lesion donors are in {target}, too ({named}); make the source's "
            f"data with --leave-out-donors, or treat the result as an upper bound"
        )
    collections = sorted({match[0] for name in donors if (match := re.match(r"[A-Za-z]{3,}", name))})
    warnings += [
        text.replace("the source's data set", "the lesion donors' data set")
        for text in overlap_warnings(collections, target)
    ]
    return tuple(warnings)


def leakage_warnings(card: SourceCard, target: str) -> tuple[str, ...]:
    """Return warnings about shared subjects, from a source's card and a target's name and dataset.json."""
    stated = card.extra.get(DONORS)
    donors = [str(name) for name in stated] if isinstance(stated, list | tuple) else []
    own = donor_warnings(donors, target, _donors_of(target)) if donors else ()
    return (*overlap_warnings(card.trained_on, target), *own)


def registered_targets() -> list[str]:
    """Return the names of all data sets in nnU-Net's raw and preprocessed folders; folders that aren't set are skipped."""
    folders = [Path(root) for variable in _FOLDERS if (root := os.environ.get(variable))]
    return sorted({d.name for f in folders if f.is_dir() for d in f.iterdir() if DATASET_FOLDER.fullmatch(d.name)})


def _donors_of(dataset: str) -> set[str]:
    """Return the donors in the dataset.json of a preprocessed or raw data set."""
    for variable in _FOLDERS:
        root = os.environ.get(variable)
        path = Path(root) / dataset / "dataset.json" if root else None
        if path is not None and path.is_file() and (found := donors_in(read_json(path))):
            return set(found.values())
    return set()


def _plain(name: str) -> str:
    match = DATASET_FOLDER.fullmatch(name)
    return "".join(c for c in (match[2] if match else name).casefold() if c.isalnum())
