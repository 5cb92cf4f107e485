"""Create the folder of a data set: one process at a time, resumable, and in place only when complete."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.locks import locked_at_once

_STATE = "state.json"


@contextlib.contextmanager
def id_held(folder: Path) -> Iterator[None]:
    """Reserve the id of a data set for this process; remove leftovers of killed processes with this id.

    Raises
    ------
    DataError
        If another process has reserved the id.
    """
    with locked_at_once(lock_path(folder), remove=True) as lock:
        if not lock:
            raise DataError(f"another process is making {_number(folder)}; wait for it, or choose another id")
        _tidy_up(folder)
        yield


@contextlib.contextmanager
def collected(folder: Path, parts: Sequence[str], *, state: Any = None, overwrite: bool = False) -> Iterator[Path]:
    """Yield the work folder of a data set, with the files of a killed run; on success, rename it to the data set's name.

    The data set's name doesn't exist before it is complete. After an error, the files written so far stay for the next run.
    The id must be reserved.

    Parameters
    ----------
    folder : folder of the data set in `nnUNet_raw`
    parts : its subfolders
    state : everything that the content depends on, as JSON types; files for a different state are removed. None if the cases
        are checked separately
    overwrite : replace a data set with this name

    Raises
    ------
    DataError
        If the data set exists and is not to be replaced.
    """
    if folder.exists() and not overwrite:
        raise DataError(f"{folder} exists; remove it or choose another id")
    work = work_path(folder)
    left = read_json(work / _STATE) if (work / _STATE).is_file() else None
    if left != state and work.exists():
        shutil.rmtree(work)
    if state is not None:
        write_json(work / _STATE, state)
    for part in parts:
        (work / part).mkdir(parents=True, exist_ok=True)
    try:
        yield work
    except (DataError, SettingsError):
        if not any(any((work / part).iterdir()) for part in parts):
            shutil.rmtree(work, ignore_errors=True)
        raise
    if state is not None:
        (work / _STATE).unlink()
    _move_into_place(work, folder)


def work_path(folder: Path) -> Path:
    """Return the work folder of a data set."""
    return folder.with_name(f".making-{folder.name}")


def lock_path(folder: Path) -> Path:
    """Return the file by which a process reserves the id of a data set."""
    return folder.with_name(f".lock-{_number(folder)}")


def _number(folder: Path) -> str:
    return folder.name.split("_")[0]


def _tidy_up(folder: Path) -> None:
    """Remove leftovers of killed runs with this id, except this data set's work folder; restore one that was moved aside."""
    kind = re.compile(rf"\.(old|making)-({re.escape(_number(folder))}_.+)")
    for path in sorted(folder.parent.iterdir()):
        match = kind.fullmatch(path.name)
        if not match or path == work_path(folder):
            continue
        # killed between the two renames of a replacement: the old data set is still valid
        if match[1] == "old" and not path.with_name(match[2]).exists():
            os.replace(path, path.with_name(match[2]))
        else:
            _remove(path)


def _move_into_place(work: Path, folder: Path) -> None:
    old = folder.with_name(f".old-{folder.name}")
    if folder.exists():
        _remove(old)
        os.replace(folder, old)
    os.replace(work, folder)
    _remove(old)


def _remove(folder: Path) -> None:
    """Remove a folder, or a link to one, as far as possible."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
