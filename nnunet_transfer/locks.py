"""Locks that are released when their process ends for any reason, so that no stale locks remain."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from nnunet_transfer.errors import StudyError

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for it if necessary.

    Raises
    ------
    StudyError
        If the file system has no locks.
    """
    with _opened(path) as stream:
        _lock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_at_once(path: Path, *, remove: bool = False) -> Iterator[TextIO | None]:
    """Hold an exclusive lock if it is free; yield the open lock file, or None.

    Parameters
    ----------
    remove : remove the file afterwards

    Raises
    ------
    StudyError
        If the file system has no locks.
    """
    with _opened(path) as stream:
        held = _lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB) and _is_still_at(stream, path)
        try:
            yield stream if held else None
        finally:
            if held and remove:
                path.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock; works without write access to the folder."""
    try:
        with open(path, encoding="utf-8") as stream:
            # shared, so that two concurrent callers don't mistake each other for the holder
            return not _lock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a+", encoding="utf-8")


def _lock(stream: TextIO, operation: int) -> bool:
    try:
        fcntl.flock(stream, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise StudyError(
            f"{stream.name}: the file system has no locks ({error.strerror}); put the study's folder on one that has: "
            "a local disk, NFS 4, Lustre mounted with flock"
        ) from None
    return True


def _is_still_at(stream: TextIO, path: Path) -> bool:
    """Whether the locked file still has this name; the last holder may have removed it in the meantime."""
    try:
        return os.fstat(stream.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
