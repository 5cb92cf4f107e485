"""How to convert the cases of one run, and the findings of each case."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from nnunet_transfer.conversion.checksums import crc32_of
from nnunet_transfer.conversion.description import Case, LabelRule
from nnunet_transfer.conversion.record import Record, relative_to
from nnunet_transfer.conversion.spatial_images import SpatialImage, read_image
from nnunet_transfer.errors import DataError
from nnunet_transfer.files import atomic_path, json_text


@dataclass(frozen=True)
class Job:
    """How to convert the cases of one run; picklable.

    Attributes
    ----------
    root : folder of the source data set
    out : folder of `imagesTr` and the others
    rule : meaning of the label values
    geometry : one of `geometry.POLICIES`
    reorient : axis directions such as RAS; empty keeps them
    link : make symbolic links to files that need no change
    pictures : whether the images are 2D pictures
    hint : added to messages about geometry
    threshold : threshold above which binary masks are foreground; None takes their single non-zero value
    """

    root: Path
    out: Path
    rule: LabelRule
    geometry: str = "error"
    reorient: str = ""
    link: bool = False
    pictures: bool = False
    hint: str = ""
    threshold: float | None = None

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the content of the written files."""
        return {
            # a list, because the classes are numbered in their order
            "classes": [*self.rule.classes.items()],
            "background": self.rule.background,
            "ignore": self.rule.ignore,
            "binary": self.rule.binary,
            "foreground": self.rule.foreground,
            "largest_share": self.rule.largest_share,
            "threshold": self.threshold,
            "geometry": self.geometry,
            "reorient": self.reorient,
            "link": self.link,
        }


@dataclass
class Findings:
    """Findings and actions during the conversion of a case, which become columns of its record."""

    sources: list[Path] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    dtype: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    mask_sha256: set[str] = field(default_factory=set)
    resampled: bool = False
    #: CRC-32 of pictures that are files, in the order of `sources`: first that of the image
    checksums: list[int] = field(default_factory=list)

    @contextmanager
    def removing_files(self, out: Path) -> Iterator[None]:
        """Remove the files written so far if the case fails with any error."""
        try:
            yield
        except BaseException:
            for name in self.files:
                (out / name).unlink(missing_ok=True)
            raise

    def warn(self, text: str) -> None:
        """Note an action that a user should see."""
        self.actions.append(text)
        self.warnings.append(text)

    def read(self, path: Path) -> SpatialImage:
        """Read a volume and note decisions and repairs."""
        image = read_image(path)
        self.sources.append(path)
        self.sha256.append(image.sha256)
        self.dtype.append(image.dtype)
        self.actions += [f"{path.name}: {action}" for action in image.actions]
        self.warnings += [f"{path.name}: {warning}" for warning in image.warnings]
        return image

    def put_in_order_of(self, files: Sequence[Path]) -> None:
        """Sort the findings in the order of `files`, because masks are read before images."""
        order = sorted(range(len(self.sources)), key=lambda i: files.index(self.sources[i]))
        self.sources = [self.sources[i] for i in order]
        self.sha256 = [self.sha256[i] for i in order]
        self.dtype = [self.dtype[i] for i in order]


def make_record(case: Case, job: Job, state: str, findings: Findings) -> Record:
    """Return the record of a case that has been written, as a later run reads it from disk."""
    record = Record(
        case=case.name,
        source_name=case.source_name,
        subject=case.subject or case.name,
        session=case.session,
        site=case.site,
        rater=case.rater,
        split=case.split,
        class_name=case.class_name,
        state=state,
        source_files=tuple(relative_to(path, job.root) for path in findings.sources),
        sha256=tuple(findings.sha256),
        dtype=tuple(findings.dtype),
        actions=tuple(findings.actions),
        warnings=tuple(findings.warnings),
        files=tuple(findings.files),
        **findings.measured,
    )
    return Record.from_json(json.loads(json_text(record.to_json())))


def content_key(data: NDArray[Any]) -> str:
    """Return a key that is equal for images with the same voxels, regardless of their headers.

    The key is CRC-32 and a sum of 64-bit words: a cryptographic digest would take a tenth of the conversion time, and the
    manifest already has one for each file.
    """
    flat = data.ravel(order="K").view(np.uint8)
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    return f"{data.shape} {data.dtype} {isal_zlib.crc32(flat.data):08x}{int(words.sum()):016x}"


def put_file(source: Path, target: Path, link: bool, checksum: int | None = None) -> None:
    """Copy a file, or make a symbolic link to it, atomically.

    Parameters
    ----------
    checksum : expected CRC-32 of the copy, from reading the source

    Raises
    ------
    DataError
        If the copy differs: the source has changed, or the disk is failing.
    """
    with atomic_path(target) as temporary:
        if link:
            temporary.unlink(missing_ok=True)
            os.symlink(source.resolve(), temporary)
        else:
            shutil.copyfile(source, temporary)
            if checksum is not None and crc32_of(temporary) != checksum:
                raise DataError(f"{source.name} changed while it was copied, or the disk fails; run again")
