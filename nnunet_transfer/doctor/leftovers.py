"""Check for folders that killed processes left behind."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nnunet_transfer.doctor.findings import Finding, State
from nnunet_transfer.errors import TransferError
from nnunet_transfer.locks import is_locked
from nnunet_transfer.paths import DATASET_FOLDER, set_folders, sources_folder
from nnunet_transfer.work import lock_path

#: what `files.atomic_folder` makes; the ending is that of `tempfile.mkdtemp`
_ATOMIC = re.compile(r"\.(tmp|old)-(.+)-[a-z0-9_]{8}")
#: what `work.collected` makes
_COLLECTED = re.compile(rf"\.(making|old)-({DATASET_FOLDER.pattern})")
#: seconds without a change after which no process writes to a folder any more: locks don't work across all file systems
QUIET = 3600


def check_leftovers() -> Iterator[Finding]:
    """Whether killed processes left unfinished or replaced folders, which are hidden and may be large."""
    for folder in _searched():
        for path in sorted(folder.glob(".*-*")):
            if not path.is_dir():
                continue
            if match := _ATOMIC.fullmatch(path.name):
                if time.time() - _last_change(path) > QUIET:
                    yield _finding(path, match[1], folder / match[2], path / match[2])
            elif (match := _COLLECTED.fullmatch(path.name)) and not _is_in_use(folder / match[2]):
                yield _finding(path, match[1], folder / match[2], path)


def _searched() -> list[Path]:
    roots = [*set_folders()]
    with suppress(TransferError):
        roots.append(sources_folder())
    here = {os.path.realpath(root): root for root in roots if os.path.isdir(root)}.values()
    inner = [path for root in here for path in sorted(root.glob("Dataset*")) if path.is_dir()]
    return [*here, *inner]


def _finding(path: Path, kind: str, final: Path, content: Path) -> Finding:
    """Return what a folder is, by its kind, and what to do about it.

    Parameters
    ----------
    final : the folder that its process was making or replacing
    content : where the content of `final` is
    """
    if kind == "making":
        found, fix = "unfinished", f"run its command again, which goes on, or rm -r {_quoted(path)}"
    elif kind == "old" and content.exists() and not final.exists():
        found, fix = f"the earlier {final.name}, moved aside", f"mv {_quoted(content)} {_quoted(final)}"
    else:
        found, fix = f"what a killed process left of {final.name}", f"rm -r {_quoted(path)}"
    return Finding("leftovers", State.WARN, f"{path} is {found}", fix)


def _is_in_use(dataset: Path) -> bool:
    try:
        return is_locked(lock_path(dataset))
    except (OSError, TransferError):  # another user's, or a file system without locks
        return True


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _last_change(folder: Path) -> float:
    """Return when a folder, or a file in it, last changed; now for what vanishes meanwhile."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return time.time()
