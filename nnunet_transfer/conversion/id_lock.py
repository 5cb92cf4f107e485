"""One conversion into an id at a time, and nothing of a killed one stays behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from nnunet_transfer.errors import DataError


@contextlib.contextmanager
def id_locked(folder: Path) -> Iterator[None]:
    """Hold the id of a data set's folder in `nnUNet_raw`; the system lets go of it when the process ends, however.

    Raises
    ------
    DataError
        If another process holds it.
    """
    number = folder.name.split("_")[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".lock-{number}")
    with open(path, "a", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.fstat(stream.fileno()).st_ino == path.stat().st_ino
        except BlockingIOError:
            same = False
        except FileNotFoundError:  # the last holder has just removed it
            same = False
        if not same:
            raise DataError(f"another conversion into {number} is running; wait for it, or choose another id with -d")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def tidy_up(folder: Path, work: Path) -> None:
    """Remove what killed conversions into this id left, but the work folder of this one; restore a data set moved aside.

    Parameters
    ----------
    folder : of the data set
    work : where this conversion collects its cases
    """
    number = folder.name.split("_")[0]
    kind = re.compile(rf"\.(old|converting)-({re.escape(number)}_.+)")
    for path in sorted(folder.parent.iterdir()):
        match = kind.fullmatch(path.name)
        if not match or path == work:
            continue
        # killed between the two renames of a replacement: the old data set is still the one that holds
        if match[1] == "old" and not path.with_name(match[2]).exists():
            os.replace(path, path.with_name(match[2]))
        else:
            shutil.rmtree(path, ignore_errors=True)
