"""What the checks of a study find, and what they look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_transfer.study.description import Dataset, Study
from nnunet_transfer.study.document import Document, Place
from nnunet_transfer.study.estimates import Estimate
from nnunet_transfer.study.jobs import Job


@dataclass(frozen=True)
class Finding:
    """A problem that stops a study, or (if not `stops`) a warning."""

    text: str
    stops: bool = True


@dataclass(frozen=True)
class Context:
    """What checks look at: a study, its file, what it will cost, and its steps by name."""

    study: Study
    document: Document
    estimate: Estimate
    jobs: Mapping[str, Job]

    def finding(self, place: Place, message: str, *, stops: bool = True) -> Finding:
        """Return a finding that names the file and the line."""
        return Finding(str(self.document.error(place, message)), stops)


#: places in the file and what was found about them
Found = Iterator[tuple[Place, Finding]]


def raw_folder(study: Study, dataset: Dataset) -> Path | None:
    """Return the folder of a data set in nnU-Net's raw folder; None if there is none with a dataset.json."""
    found = sorted(study.folders["nnUNet_raw"].glob(f"Dataset{dataset.number:03d}_*/dataset.json"))
    return found[0].parent if found else None
