"""What is kept of each converted case, from which all tables are written and an interrupted conversion goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_transfer.conversion.description import Case


@dataclass(frozen=True)
class Record:
    """One converted case.

    Attributes
    ----------
    case, source_name, subject, session, site, rater, split, class_name : as in `Case`
    state : digest of what the case was made from (see `state_of`)
    source_files : relative to the data set's root
    sha256 : of each source file
    dtype : dtype on disk of each source file
    orientation, spacing : of the first image as found on disk, spacing in mm
    shape : of the first image as written
    label_values, label_voxels : distinct values of the masks as found on disk, and in how many voxels each
    written_values, written_voxels : the same of the label as written
    source_lesion_ml, source_lesions : of a binary label before it was put on the image's grid; None for others
    lesion_ml, lesions : volume and number of connected components of a binary label as written; None for others
    content : digest of the first image's voxels, to find duplicates
    actions : what was done or found
    warnings : those actions that a user should see
    files : written, relative to the data set's folder
    """

    case: str
    subject: str
    session: str
    site: str
    rater: str
    split: str
    class_name: str
    state: str
    source_files: tuple[str, ...]
    source_name: str = ""
    sha256: tuple[str, ...] = ()
    dtype: tuple[str, ...] = ()
    orientation: str = ""
    written_orientation: str = ""
    spacing: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    label_values: tuple[float, ...] = ()
    label_voxels: tuple[int, ...] = ()
    written_values: tuple[int, ...] = ()
    written_voxels: tuple[int, ...] = ()
    source_lesion_ml: float | None = None
    source_lesions: int | None = None
    lesion_ml: float | None = None
    lesions: int | None = None
    content: str = ""
    actions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON content."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """Return the record that `to_json` described."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**values)


def state_of(case: Case, identity: str) -> str:
    """Return a digest that changes when the case's files or the way of converting it change.

    Files count by path, size and time of last change: reading them all would take as long as converting them.
    """
    content = json.dumps([_plain(case), [*map(_stamp, case.files())], identity])
    return hashlib.sha256(content.encode()).hexdigest()


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # a link to nowhere, which reading will report
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns


def _plain(case: Case) -> list[Any]:
    return [
        case.name,
        sorted(case.images),
        [len(masks) for masks in case.masks],
        case.combine,
        case.subject,
        case.session,
        case.site,
        case.rater,
        case.split,
        case.class_name,
        case.notes,
        case.source_name,
    ]


def relative_to(path: Path, root: Path) -> str:
    """Return a path relative to the data set's root if it lies below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
