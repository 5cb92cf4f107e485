"""The record of a converted case, the basis of all tables and for resuming a conversion."""

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
    """A converted case.

    Attributes
    ----------
    case, source_name, subject, session, site, rater, split, class_name : as in `Case`
    state : digest of the case's input (see `state_of`)
    source_files : relative to the data set's root
    sha256 : checksum of each source file
    dtype : dtype on disk of each source file
    orientation, spacing : orientation and spacing (mm) of the first image on disk
    shape : shape of the first written image
    label_values, label_voxels : distinct values of the masks on disk, and the number of voxels of each
    written_values, written_voxels : the same for the written label
    source_lesion_ml, source_lesions : volume and number of connected components of a binary label before it was put on the
        image's grid; None for others
    lesion_ml, lesions : volume and number of connected components of a written binary label; None for others
    content : digest of the first image's voxels, to find duplicates
    actions : actions and findings
    warnings : actions that a user should see
    files : written files, relative to the data set's folder
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
        """Return a record from the content that `to_json` returned."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**values)


def state_of(case: Case, identity: str) -> str:
    """Return a digest that changes with the files of a case or the options of the conversion.

    Files are represented by path, size and modification time, because reading them would take as long as the conversion.
    """
    content = json.dumps([_plain(case), [*map(_stamp, case.files())], identity])
    return hashlib.sha256(content.encode()).hexdigest()


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # a broken link, which reading will report
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
